"""The equations of a module: every comment that is one, and the statements below it, up to the next
comment, empty line, branch or loop.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

# what a comment has to contain to be an equation and not a remark
EQUATION = re.compile(r"<-| = |\bE\[|\bE_|\bsum_|\bgrad\b|\bgrad_|\w_\w+ [/.] \w")


@dataclass(frozen=True)
class Equation:
    """An equation and the lines that compute it."""

    text: str
    function: str
    """Qualified name of the function in its module."""
    line: int
    """Number of the first line of `source` in its file."""
    source: str


def equations(module: ModuleType) -> list[Equation]:
    """The equations of `module` in the order of its lines."""
    lines = inspect.getsource(module).splitlines()
    found = []
    for function, block in _blocks(ast.parse("\n".join(lines)), ()):
        for index, statement in enumerate(block):
            text = _comment_above(lines, statement.lineno)
            if EQUATION.search(text):
                end = _end(lines, block[index:])
                source = textwrap.dedent("\n".join(lines[statement.lineno - 1 : end]))
                found.append(Equation(text, function, statement.lineno, source))
    return sorted(found, key=lambda equation: equation.line)


def _blocks(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Every block of statements in functions below `node`, with the function's qualified name."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        path = (*path, node.name)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, [])
        if path and isinstance(block, list) and not isinstance(node, ast.ClassDef):
            yield ".".join(path), block
    for child in ast.iter_child_nodes(node):
        yield from _blocks(child, path)


def _end(lines: list[str], block: list[ast.stmt]) -> int:
    """Number of the last line that belongs to the first statement of `block`."""
    end = block[0].end_lineno or block[0].lineno
    for statement in block[1:]:
        apart = statement.lineno != end + 1
        if apart or isinstance(statement, ast.Return | ast.If | ast.For | ast.With):
            break
        end = statement.end_lineno or statement.lineno
    return end


def _comment_above(lines: list[str], line: int) -> str:
    """The lines of comment directly above line number `line`, '' if there are none."""
    comment: list[str] = []
    for above in reversed(lines[: line - 1]):
        if not above.strip().startswith("# "):
            break
        comment.insert(0, above.strip().removeprefix("# "))
    return "\n".join(comment)
