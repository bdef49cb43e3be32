"""A method is added to a copy of the package by one file and one line; then it is trained,
evaluated and exported by the command line.
"""

import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import polyreach
from polyreach.robot.onnx_policy import PolicyFile

PACKAGE = Path(polyreach.__file__).parent
FILE = Path(__file__).with_name("added") / "and_mask.py"
LAST_LINE = '    "fine_tuning",\n'
LONGEST = 50  # lines

PROGRAM = """
import json, sys
from polyreach.cli import main
for words in json.loads(sys.argv[1]):
    status = main(words)
    if status:
        sys.exit(status)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the package, to which the method is added."""
    package = tmp_path / "checkout" / "polyreach"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FILE, package / "methods")
    table = package / "methods" / "__init__.py"
    before = table.read_text()
    assert before.count(LAST_LINE) == 1
    table.write_text(before.replace(LAST_LINE, f'{LAST_LINE}    "{FILE.stem}",\n'))
    changed = difflib.ndiff(before.splitlines(), table.read_text().splitlines())
    assert [line for line in changed if line[0] in "+-"] == [f'+     "{FILE.stem}",']
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


def test_a_method_is_one_file_under_fifty_lines_and_one_line(checkout: Path) -> None:
    assert len(FILE.read_text().splitlines()) < LONGEST
    run, policy = checkout / "run", checkout / "policy.onnx"
    small = ["--steps", "640", "--num-envs", "32", "--eval-every", "320", "--eval-goals", "1"]
    small += ["--method-config.learning-starts", "16", "--method-config.agreement", "0.75"]
    done = run_here(
        checkout,
        ["train", "and-mask", "planar8", *small, "--out", str(run)],
        ["export", str(run), "--out", str(policy), "--goals", "4"],
        ["evaluate", str(policy), "--goals", "4", "--seconds", "0.5"],
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "policy.onnx: 4 goals" in done.stdout
    contract = PolicyFile(policy).contract
    assert contract["method"] == "and-mask" and "AND-mask" in contract["method_paper"]
    training = contract["training"]
    assert training["updates"] > 10
    # the tuned settings of the family, and an option of the method's own
    settings = training["config"]["method_config"]
    assert settings["alpha_lr"] == 3e-3 and settings["hidden"] == [256, 256]
    assert settings["agreement"] == 0.75
    assert "`and-mask`" in policy.with_suffix(".md").read_text()


def test_a_new_method_is_refused_where_it_has_no_tuned_settings(checkout: Path) -> None:
    done = run_here(checkout, ["train", "and-mask", "cheetah8"])
    assert done.returncode == 2
    assert done.stderr == (
        "polyreach train: method 'and-mask' has no settings of preset 'tuned' for environment "
        "'cheetah8' of kind 'cheetahs' (legal: preset paper; preset tuned for kinds robot)\n"
    )
