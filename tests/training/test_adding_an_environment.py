"""A kind of environments is added to a copy of the package by one file and one line; then the
command line lists it, and trains and evaluates a method in it.
"""

import json
from pathlib import Path

import pytest
from adding import ADDED, checkout_with, run_here

FILE = ADDED / "pendulums.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the package, to which the environments are added."""
    return checkout_with(tmp_path, FILE, "envs", "registry.py", after="legged.spec")


def test_a_kind_of_environments_is_one_file_and_one_line(checkout: Path) -> None:
    run = checkout / "run"
    small = ["--steps", "800", "--num-envs", "8", "--eval-every", "400", "--eval-goals", "4"]
    small += ["--method-config.learning-starts", "40", "--method-config.hidden", "32", "32"]
    small += ["--env-config.horizon", "30", "--preset", "paper"]
    done = run_here(
        checkout,
        ["train", "mtsac", "pendulums", *small, "--out", str(run)],
        ["train", "--resume", str(run)],
        ["list", "--json"],
    )
    assert done.returncode == 0, done.stderr + done.stdout
    listed = json.loads(done.stdout[done.stdout.index("\n{\n") :])
    assert listed["envs"]["pendulums"] == ["short", "long"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [400, 800]
    assert all(0.0 < record["return_short"] <= 30.0 for record in records)
    assert records[-1]["updates"] == 91
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["env_config"] == {"horizon": 30}


def test_an_environment_without_tuned_settings_is_named(checkout: Path) -> None:
    done = run_here(checkout, ["train", "mtsac", "pendulums"])
    assert done.returncode == 2
    assert "no settings of preset 'tuned' for environment 'pendulums' of kind" in done.stderr
    done = run_here(checkout, ["train", "digrad", "pendulums"])
    assert done.returncode == 2
    assert "environment 'pendulums' is not a robot, and this method needs one" in done.stderr
