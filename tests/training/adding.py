"""A copy of the package to which one file and one line are added, and its command line."""

import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polyreach

PACKAGE = Path(polyreach.__file__).parent
ADDED = Path(__file__).with_name("added")  # folder of the files

PROGRAM = """
import json, sys
from polyreach.cli import main
for words in json.loads(sys.argv[1]):
    status = main(words)
    if status:
        sys.exit(status)
"""


def checkout_with(tmp_path: Path, file: Path, folder: str, table: str, after: str) -> Path:
    """A folder with a copy of the package that has `file` in `folder`, and its name in the table of
    modules in `folder`/`table`, on the line below the name `after`.
    """
    package = tmp_path / "checkout" / "polyreach"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(file, package / folder)
    modules = package / folder / table
    before = modules.read_text()
    last_line, line = f'    "{after}",\n', f'    "{file.stem}",'
    assert before.count(last_line) == 1
    modules.write_text(before.replace(last_line, f"{last_line}{line}\n"))
    changed = difflib.ndiff(before.splitlines(), modules.read_text().splitlines())
    assert [text for text in changed if text[0] in "+-"] == [f"+ {line}"]
    return package.parent


def run_here(checkout: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """`polyreach WORDS` for every list of words, one after the other, with the copy."""
    paths = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240.0,
        check=False,
    )
