"""YAML of a user, within bounds: a short text can stand for more than any memory holds."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 200_000
MAX_NODES = 10_000  # names, values, lists and mappings, those behind an alias each time
MAX_DEPTH = 20  # lists and mappings in each other


class YamlError(ValueError):
    """A text is no YAML, or more than the bounds; the message names what is wrong, not the file."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain values.

    Raises YamlError for a file that cannot be read, for text that is no YAML, for a key written
    twice, and for more than MAX_BYTES, MAX_NODES or MAX_DEPTH.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise YamlError(f"the file has more than {MAX_BYTES} bytes")
        return yaml.load(data.decode("utf-8"), Loader=_BoundedLoader)
    except YamlError:
        raise
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date or number may be none, too
        raise YamlError(f"not valid YAML: {' '.join(str(error).split())}") from None


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that counts what it composes, and refuses a key written twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0
        self._sizes: dict[str, int] = {}  # nodes behind an anchor

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose as the base class does. Raises YamlError past a bound."""
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise YamlError(f"alias '*{event.anchor}' in line {line} is inside itself")
            self._count(self._sizes.get(event.anchor, 0), line)
            return super().compose_node(parent, index)
        before = self._nodes
        self._count(1, line)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(
                f"more than {MAX_DEPTH} lists and mappings in each other in line {line}"
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise YamlError(
                f"more than {MAX_NODES} values up to line {line} (those of an alias count "
                "each time)"
            )


def _unique_mapping(loader: _BoundedLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # <<: other mappings, whose keys this one may replace
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise YamlError(f"key {key!r} in line {line} must be a name")
        if key in seen:
            raise YamlError(f"duplicate key '{key}' in line {line}: every name may appear once")
        seen.add(key)
    return loader.construct_mapping(node)


_BoundedLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
