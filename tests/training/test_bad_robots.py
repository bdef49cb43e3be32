"""Robot files that would hang, fill the memory, write other files or control the terminal."""

import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import pytest
from bad_files import (
    ENTITIES,
    REPLICATES,
    ROBOT_YAML,
    alias_bomb,
    deep_yaml,
    merge_bomb,
    write_robot,
)

from polyreach.cli import main
from polyreach_description import RobotError, load_robot, model_check
from polyreach_description.limited import LimitError, Limits, run_limited
from polyreach_description.printable import printable
from polyreach_description.robot import ROBOTS_DIR
from polyreach_description.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_NODES

INCLUDED = "<mujoco><option timestep='0.002'/></mujoco>"
QUICK_S = 5.0  # [s]; without bounds it is hours, or all of the memory


def refused(path: Path) -> str:
    """Error message of a refused robot: one line, quick, with the file's name."""
    begun_s = monotonic()
    with pytest.raises(RobotError) as error:
        load_robot(path)
    assert monotonic() - begun_s < QUICK_S
    text = str(error.value)
    assert text.startswith(f"{path}: ") and text.isprintable() and len(text) < 2100
    return text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (alias_bomb(), f"more than {MAX_NODES} values up to line "),
        (merge_bomb(), f"more than {MAX_NODES} values up to line "),
        (deep_yaml(), f"more than {MAX_DEPTH} lists and mappings in each other in line 1"),
        (deep_yaml(100_000), f"more than {MAX_BYTES} bytes"),
        ("name: &a [*a]\n", "alias '*a' in line 1 is inside itself"),
        (f"name: [{'x, ' * MAX_NODES}]\n", f"more than {MAX_NODES} values"),
        ("name: x\nname: y\n", "duplicate key 'name' in line 2"),
        ("? [a]\n: 1\n", "key ['a'] in line 1 must be a name"),
        (f"name: {'9' * 10_000}\n", "not valid YAML: Exceeds the limit"),
        ("name: 2001-02-30\n", "not valid YAML: day is out of range for month"),
        (ROBOT_YAML.format(name="x").replace("50.0", f"0x{'f' * 9_000}"), "Exceeds the limit"),
        (ROBOT_YAML.format(name="x").replace("50.0", str([0] * 5_000)), "control_rate is [0, 0"),
    ],
    ids=[
        "aliases",
        "merge keys",
        "deep",
        "large",
        "inside itself",
        "many values",
        "a key twice",
        "a list as key",
        "a long number",
        "a day that is none",
        "a long hexadecimal number",
        "a long value",
    ],
)
def test_yaml_beyond_its_bounds_is_refused_immediately(
    tmp_path: Path, text: str, reason: str
) -> None:
    assert reason in refused(write_robot(tmp_path, text))


def test_merge_keys_and_aliases_of_honest_files_work(tmp_path: Path) -> None:
    plain = ROBOT_YAML.format(name="merged").partition("joints:")[0]
    joints = "joints:\n  first: &limits {velocity: 1.0, acceleration: 10.0}\n"
    second = (
        "  second: {<<: *limits, acceleration: 20.0}\nhome: {first: &zero 0.1, second: *zero}\n"
    )
    inside = """<body><joint name="second" axis="0 1 0" range="-90 90" limited="true"/>
        <geom size="0.02" mass="1"/><site name="far" pos="0.6 0 0"/></body>"""
    text = (plain + joints + second).replace("{site: tip}", "{site: far}")
    robot = load_robot(write_robot(tmp_path, text, inside=inside))
    assert robot.joint_vel_limits.tolist() == [1.0, 1.0]
    assert robot.joint_acc_limits.tolist() == [10.0, 20.0]
    assert robot.home.tolist() == [0.1, 0.1]


@pytest.mark.parametrize(
    "name", ["../../..", "a/b", "a b", "_a", "1a", "a\nb", "a" * 101, "ä", "."]
)
def test_illegal_names_are_refused(tmp_path: Path, name: str) -> None:
    path = write_robot(tmp_path, name=f'"{printable(name)}"')
    assert "name " in refused(path)
    assert load_robot(write_robot(tmp_path, name="Arm-7_left")).name == "Arm-7_left"


def test_training_writes_nothing_for_a_name_that_is_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "a" / "b" / "c"
    path = write_robot(work, name="../../..")
    monkeypatch.chdir(work)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "digrad", str(path), "--steps", "64"]) == 2
    assert "name '../../..' must be letters" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["effector", "joint", "base_frame", "site"])
def test_names_have_no_control_characters(tmp_path: Path, place: str) -> None:
    """Neither in the yaml, nor, where MuJoCo lets them pass, in the model."""
    words = {"effector": "  tip:", "joint": "  first:", "base_frame": ": base", "site": "site: tip"}
    name = words[place].strip(" :").removeprefix("site: ")
    escaped = words[place].replace(name, f'"{name}\\e[2J"')
    path = write_robot(tmp_path, ROBOT_YAML.format(name="x").replace(words[place], escaped))
    assert "\\x1b[2J" in refused(path)
    assert "model has the name '" in refused(
        write_robot(tmp_path, inside='<geom size="0.1" name="\x7f[2J"/>')
    )


def test_rich_shows_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = """<body name="[bold]held:smile:"><joint name="[red]wrist:smile:" axis="0 1 0"
        range="-90 90" limited="true"/><geom size="0.02"/></body>"""
    assert main(["robot", "show", str(write_robot(tmp_path, inside=inside))]) == 0
    assert "held joints: [red]wrist:smile:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"inside": REPLICATES}, "elements, expected at most 100000"),
        (
            {"inside": '<composite type="cable" count="99999999999 1 1"/>'},
            "expected at most 100000",
        ),
        ({"tail": "<deformable><flexcomp count='999 999 999'/></deformable>"}, "at most 100000"),
    ],
    ids=["replicate", "composite", "flexcomp"],
)
def test_models_with_too_many_elements_are_refused_without_loading(
    tmp_path: Path, parts: dict[str, str], reason: str
) -> None:
    assert reason in refused(write_robot(tmp_path, **parts))


def test_a_model_that_hides_its_elements_meets_the_limits_of_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An XML parser does not take the document, but MuJoCo's does: it is tried in any case."""
    path = write_robot(tmp_path, inside=REPLICATES)
    model = tmp_path / "robot.xml"
    model.write_bytes(b"<!-- \xff -->" + model.read_bytes())
    monkeypatch.setattr(model_check, "TRIAL_LIMITS", Limits(cpu_s=2, memory_bytes=2 * 2**30))
    with pytest.raises(RobotError) as error:
        load_robot(path)
    assert "within the bounds: more than 2 s of CPU time" in str(error.value)


def test_entities_are_not_written_out(tmp_path: Path) -> None:
    path = write_robot(tmp_path)
    model = tmp_path / "robot.xml"
    model.write_text(ENTITIES + model.read_text().replace('"base"', '"base" user="&a11;"'))
    assert "MuJoCo cannot load" in refused(path)


def test_models_that_include_other_files_are_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(model_check, "run_limited", lambda *words: calls.append(words) or "")
    monkeypatch.setenv(model_check.PASSED, "")
    for plain in (write_robot(tmp_path), ROBOTS_DIR / "planar8" / "robot.yaml"):
        load_robot(plain)
    assert not calls
    included = write_robot(tmp_path / "other", head='<include file="more.xml"/>')
    (tmp_path / "other" / "more.xml").write_text(INCLUDED)
    load_robot(included)
    load_robot(included)
    model_check._tried.cache_clear()  # as in a child process, which inherits the environment
    load_robot(included)
    assert len(calls) == 1
    included.write_text(included.read_text().replace("one_joint", "another"))
    load_robot(included)
    assert len(calls) == 2


def load_with_include(folder: str) -> str:
    """Load a robot that is tried in a child process; for another process to call."""
    path = write_robot(Path(folder), head='<include file="more.xml"/>')
    (Path(folder) / "more.xml").write_text(INCLUDED)
    return load_robot(path).name


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_worker_processes_can_try_models(tmp_path: Path, method: str) -> None:
    with get_context(method).Pool(1) as pool:
        assert pool.apply(load_with_include, (str(tmp_path),)) == "one_joint"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "more than 1 s of CPU time"),
        ("x = bytearray(3 << 30)", "an end with status 1, perhaps for want of memory"),
        ("import os; os.abort()", "a crash by SIGABRT"),
        ("pass", "an end with status 0"),
    ],
)
def test_children_end_at_their_limits(tmp_path: Path, code: str, reason: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    with pytest.raises(LimitError, match=reason):
        run_limited(script, (), b"", Limits(cpu_s=1, memory_bytes=2**30))


def test_child_processes_inherit_the_import_paths_without_site(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, numpy\n"
        "print(json.dumps([sys.argv[1:], sys.stdin.read(), 'site' in sys.modules]))"
    )
    limits = Limits(cpu_s=5, memory_bytes=2**31)
    assert run_limited(script, ("a", "b"), b"text", limits) == [["a", "b"], "text", False]


def test_checking_a_bad_robot_prints_one_sentence(tmp_path: Path) -> None:
    path = write_robot(tmp_path, deep_yaml())
    command = [str(Path(sys.executable).parent / "polyreach"), "robot", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and "in each other" in done.stderr
