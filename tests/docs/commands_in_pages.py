"""The commands that README.md and the pages of docs/ tell a reader to type."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
)
FENCE = re.compile(r"^```(?P<language>\w*)\s*$")
INLINE = re.compile(r"(?<!`)`(?P<code>[^`\n]+(?:\n[^`\n]+)?)`(?!`)")
PROGRAMS = ("polyreach", "make", "ros2", "python", "pip", "colcon", "launch_test", "xacro")


@dataclass(frozen=True)
class Command:
    """A command of a page, without its comment."""

    place: str
    """Page and line, as an editor opens it."""
    words: tuple[str, ...]
    in_block: bool
    """Whether it stands in a block of its own, for a reader to copy; otherwise within a text."""
    block: str = ""
    """First line of the block."""
    line: str = ""
    """The line of the block as a shell reads it, where `&&` divides several commands."""

    @property
    def program(self) -> str:
        """Name of the program, without its folder."""
        return Path(self.words[0]).name

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def commands_of(page: Path) -> list[Command]:
    """All commands of a page, those in blocks first."""
    return commands_in(page.relative_to(REPOSITORY).as_posix(), page.read_text(encoding="utf-8"))


def commands_in(name: str, text: str) -> list[Command]:
    """The same of the text of the page `name`."""
    found = []
    for number, line, first in _block_lines(text):
        found += [Command(f"{name}:{number}", words, True, first, line) for words in _parts(line)]
    for match in INLINE.finditer(text):
        if match["code"].split()[0].rpartition("/")[2] not in PROGRAMS:
            continue
        number = text[: match.start()].count("\n") + 1
        parts = _parts(match["code"])
        found += [Command(f"{name}:{number}", words, False) for words in parts if len(words) > 1]
    return found


def _parts(line: str) -> list[tuple[str, ...]]:
    """The words of each command of a line, which `&&`, `;` and `|` divide."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        lexer.commenters, lexer.whitespace_split = "#", True
        words = list(lexer)
    except ValueError:  # a quotation mark of a sentence
        words = line.split()
    parts: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("&;|"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [tuple(part) for part in parts if part]


def _block_lines(text: str) -> list[tuple[int, str, str]]:
    """Number and text of each line of the indented blocks and of those fenced as bash, and the
    first line of its block.
    """
    blocks: list[tuple[int, str, str]] = []
    first_line = ""
    language: str | None = None
    in_block, blank_before, continued = False, True, False
    for number, line in enumerate(text.splitlines(), 1):
        if fence := FENCE.match(line.strip()):
            language = fence["language"] if language is None else None
            continue
        indented = line.startswith("    ") and not line.lstrip().startswith(("- ", "* "))
        if language is None:
            in_block = bool(line.strip()) and indented and (in_block or blank_before)
        if language == "bash" or (language is None and in_block):
            content = line.strip()
            first_line = first_line or content
            if continued:
                number, start, _ = blocks.pop()
                content = f"{start} {content}"
            continued = content.endswith("\\")
            blocks.append((number, content.removesuffix("\\").rstrip(), first_line))
        else:
            first_line = ""
        blank_before = not line.strip()
    return blocks
