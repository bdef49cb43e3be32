"""A method is added to a copy of the package by one file and one line; then it is trained,
evaluated and exported by the command line.
"""

from pathlib import Path

import pytest
from adding import ADDED, checkout_with, run_here

from polyreach.robot.onnx_policy import PolicyFile

FILE = ADDED / "and_mask.py"
LONGEST = 50  # lines


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the package, to which the method is added."""
    return checkout_with(tmp_path, FILE, "methods", "__init__.py", after="fine_tuning")


def test_a_method_is_one_file_under_fifty_lines_and_one_line(checkout: Path) -> None:
    assert len(FILE.read_text().splitlines()) < LONGEST
    run, policy = checkout / "run", checkout / "policy.onnx"
    small = ["--steps", "640", "--num-envs", "32", "--eval-every", "320", "--eval-goals", "1"]
    small += ["--method-config.learning-starts", "16", "--method-config.agreement", "0.75"]
    done = run_here(
        checkout,
        ["train", "and-mask", "planar8", *small, "--out", str(run)],
        ["export", str(run), "--out", str(policy), "--goals", "1"],
        ["evaluate", str(policy), "--goals", "2", "--seconds", "0.5", "--starts", "2"],
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "policy.onnx: 2 goals" in done.stdout
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
