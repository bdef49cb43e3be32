"""Every help text, as it is shown: whole sentences in whole paragraphs."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
import tyro

from polyreach.cli import COMMANDS, main
from polyreach.envs.registry import list_envs
from polyreach.methods import METHODS

RANGE = r"[\[(]-?\d, \d[\])]"  # of numbers; may be half open
GIVEN = ("method", "env")
PAIRS = {")": "(", "]": "["}


def is_whole(text: str) -> bool:
    """Whether a paragraph is whole sentences: it ends with a full stop, and each parenthesis and
    bracket is closed in the sentence that opens it.
    """
    for sentence in re.split(r"(?<=\.) (?=[A-Z][a-z])", re.sub(RANGE, "", text)):
        opened = []
        for letter in sentence:
            if letter in "([":
                opened.append(letter)
            elif letter in ")]" and (not opened or opened.pop() != PAIRS[letter]):
                return False
        if opened or not sentence.endswith("."):
            return False
    return True


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Average the gradients (eq. 11) instead of adding them (eq. 10).", True),
        ("Joint positions in [-1, 1] of their range [m, rad].", True),
        ("Average the gradients of a shared joint over its tasks (eq.", False),
        ("11) instead of adding them (eq. 10).", False),
        ("Widths of the hidden layers (the paper. Their number).", False),
        ("Widths of", False),
        ("", False),
    ],
)
def test_cut_off_sentences_are_detected(text: str, whole: bool) -> None:
    assert is_whole(text) == whole


def squashed(text: str) -> str:
    """Without spaces, lines and frames."""
    return re.sub(r"[\s│]", "", text)


def fields_of(options: type[Any]) -> Iterator[tuple[str, str]]:
    """Name and help text of every option, and the text of every group of options."""
    for field in dataclasses.fields(options):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield field.name, " ".join((field.type.__doc__ or "").split())
            yield from fields_of(field.type)
        else:
            yield field.name, field.metadata.get("help", "")


def assert_reads_well(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Check what `polyreach WORDS --help` shows; returns the number of descriptions.

    METHOD and ENV are not described any more where they are among the words.
    """
    seen = []
    parse = tyro.cli

    def record(options: type[Any], **rest: Any) -> Any:
        seen.append((options, rest["description"]))
        return parse(options, **rest)

    monkeypatch.setattr(tyro, "cli", record)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    out = squashed(capsys.readouterr().out)
    ((options, introduction),) = seen
    texts = [("introduction", text) for text in introduction.split("\n\n")]
    texts += fields_of(options)
    texts = [(name, text) for name, text in texts if words[1:] == [] or name not in GIVEN]
    for name, text in texts:
        assert is_whole(text), (name, text)
        assert "\n" not in text, (name, text)
        assert squashed(text) in out, (name, text)
    return len(texts)


@pytest.mark.parametrize(
    ("method", "env"),
    [
        *((method, "planar8") for method in METHODS),
        *(("mtsac", env) for env in (*list_envs(), "humanoid27")),
    ],
)
def test_help_of_training(
    method: str, env: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert assert_reads_well(["train", method, env], capsys, monkeypatch) > 20


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "goal"])
def test_help_of_commands(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert assert_reads_well([command], capsys, monkeypatch) > 1


def test_help_of_goal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["goal", "--help"])
    assert ended.value.code == 0
    _, introduction, positionals, options = capsys.readouterr().out.strip().split("\n\n")
    assert is_whole(introduction)
    described = re.sub(r"\n {10,}", "  ", f"{positionals}\n{options}").splitlines()
    described = [line for line in described if line.startswith(" ") and "--help" not in line]
    assert len(described) == 13
    for line in described:
        name, text = re.split(r" {2,}", line.strip(), maxsplit=1)
        assert is_whole(" ".join(text.split())), name
