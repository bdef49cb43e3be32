"""For the API reference: docstrings are plain text, in which `[a][b]` and `*` mean themselves."""

from typing import Any

from griffe import Extension, Object
from prose import as_markdown  # loaded by pages.py


class PlainDocstrings(Extension):
    """Escapes what Markdown would take for markup."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
