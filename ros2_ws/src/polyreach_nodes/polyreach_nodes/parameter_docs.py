"""Write what the parameter classes say into parameter files and Markdown tables.

    python -m polyreach_nodes.parameter_docs config/*.yaml docs/controller.md

Of a .yaml file, the values stay; every parameter gets its description, and a comment in place of a
value that the file does not set. In a .md file, a table is written between the lines
`<!-- parameters of CLASS -->` and `<!-- end of parameters -->`.
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from polyreach_nodes import parameters
from polyreach_nodes.parameter_spec import ParameterSpec, Value, specs
from polyreach_nodes.parameters import ControllerParameters, WatchdogParameters

WIDTH = 98  # of a line in a parameter file
NODES = {"/**": ControllerParameters, "/**/polyreach_command_watchdog": WatchdogParameters}
TABLE = re.compile(r"(<!-- parameters of (\w+) -->\n).*?(<!-- end of parameters -->)", re.DOTALL)


def parameter_file(content: str) -> str:
    """A parameter file with the values of `content` and the descriptions of NODES.

    Raises ValueError for a node or parameter that there is not.
    """
    values: dict[str, dict[str, dict[str, Value]]] = yaml.safe_load(content)
    robot = values["/**"]["ros__parameters"]["robot"]
    lines = [
        f'# Controller of {robot}. "/**" holds in every namespace. Comments are written by',
        "# python -m polyreach_nodes.parameter_docs FILE",
    ]
    for node, section in values.items():
        if node not in NODES:
            raise ValueError(f"unknown node '{node}' (known: {', '.join(NODES)})")
        lines += [f"{node}:", "  ros__parameters:"]
        lines += _section(NODES[node], section["ros__parameters"])
    return "\n".join(lines) + "\n"


def _section(kind: type[Any], values: dict[str, Value]) -> list[str]:
    names = [spec.name for spec in specs(kind)]
    if unknown := values.keys() - set(names):
        raise ValueError(f"unknown parameter {sorted(unknown)} (known: {', '.join(names)})")
    lines = []
    for spec in specs(kind):
        text = textwrap.wrap(_sentence(spec), WIDTH - 6)
        lines += [f"    # {line}" for line in text]
        if spec.name in values:
            lines.append(f"    {spec.name}: {json.dumps(values[spec.name])}")
        else:
            lines.append(f"    # {spec.name}: {spec.example or json.dumps(spec.default)}")
    return lines


def _sentence(spec: ParameterSpec) -> str:
    return spec.description if spec.range is None else f"{spec.description} Range: {_range(spec)}."


def table(kind: type[Any]) -> str:
    """A Markdown table of the parameters of a class."""
    rows = ["| parameter | default | range | unit | can be set | |", "|---|---|---|---|---|---|"]
    for spec in specs(kind):
        default = json.dumps(spec.default) if spec.default != () else "unset"
        text = spec.text.replace("|", "\\|").replace("<", "&lt;")
        name, when = f"`{spec.name}`", spec.settable.value
        cells = name, f"`{default}`", _range(spec), spec.unit, when, text
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _range(spec: ParameterSpec) -> str:
    return "" if spec.range is None else f"{spec.range[0]:g} to {spec.range[1]:g}"


def documentation(content: str) -> str:
    """A Markdown file with the tables that its comments ask for."""
    return TABLE.sub(
        lambda match: match[1] + table(getattr(parameters, match[2])) + match[3], content
    )


def written(path: Path) -> str:
    """What a file should hold. Raises ValueError for a file of another kind."""
    writers = {".yaml": parameter_file, ".md": documentation}
    if path.suffix not in writers:
        raise ValueError(f"'{path}' is neither a .yaml nor a .md file")
    return writers[path.suffix](path.read_text())


def main(argv: list[str] | None = None) -> int:
    """Write the files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m polyreach_nodes.parameter_docs")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for path in parser.parse_args(argv).files:
        path.write_text(written(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
