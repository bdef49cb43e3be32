"""Commands that print: list, robot show, robot check, help."""

import json
from pathlib import Path

import pytest

from polyreach.cli import COMMANDS, main
from polyreach.robot.robot_report import check_robot
from polyreach_description import RobotError, load_robot

SLOW = "joints that policies move slower, to speed up in 0.15 s"
DRIFT = "drift in a second of zero velocity [rad or m]"
GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in COMMANDS)


def test_list_shows_methods_environments_robots_and_policies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"digrad", "ddpg", "independent-sac", "mtsac", "picor"} <= set(listed["methods"])
    assert listed["envs"]["mt3"] == ["reach-v3", "window-open-v3", "drawer-close-v3"]
    assert len(listed["envs"]["mt50"]) == 50 and "BigFoot" in listed["envs"]["cheetah8"]
    assert listed["robots"]["planar8"]["effectors"] == ["left", "middle", "right"]
    assert any(path.endswith("planar8-digrad.onnx") for path in listed["policies"])


def test_list_shortens_long_task_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mt10" in out and "and 40 more" in out and "in addition to all robots" in out


@pytest.mark.parametrize(
    "robot", ["planar8", "humanoid27", "dual7", str(GANTRY)], ids=lambda r: Path(r).parent.name or r
)
def test_robot_check_reports_the_robot(robot: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "check", robot]) == 0
    out = capsys.readouterr().out
    loaded = load_robot(robot)
    assert f"robot '{loaded.name}' is fine" in out
    for name in (*loaded.effector_names, *loaded.shared_joints):
        assert name in out
    assert "forward kinematics against MuJoCo [m]" in out


def test_robot_show_is_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "humanoid27", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["held joints"]) == 14 and len(shown["joints"]) == 13
    assert shown["joints"][0]["unit"] == "rad"


FALLING = """<mujoco><compiler angle="radian"/><worldbody><body name="base">
  <geom size="0.02"/><body pos="0 0 0.1"><joint name="turn" axis="0 0 1" range="-1 1"/>
  <geom size="0.03" pos="0.2 0 0" mass="1"/><site name="tip" pos="0.3 0 0"/>
  <body pos="0.3 0 0.2"><joint name="loose" axis="0 1 0" range="-1 1" stiffness="STIFF"
  springref="0.9"/><geom size="0.02" pos="0.1 0 0" mass="0.1"/><site name="end" pos="0.2 0 0"/>
  </body></body></body></worldbody></mujoco>"""
YAML = """
name: falling
model: robot.xml
base_frame: base
control_rate: 50
effectors: {end: {site: end}}
joints:
  turn: {velocity: 1.0, acceleration: 5.0}
  loose: {velocity: 1.0, acceleration: 5.0, effort: 0.1}
"""


def test_rows_of_joints_fit_into_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["robot", "check", "humanoid27"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for joint in load_robot("humanoid27").joint_names:
        (row,) = (line for line in lines if line[:1] == [joint])
        # name, unit, low, high, home, velocity, acceleration, reached
        assert len(row) == 8 and row[1] == "rad"
        assert float(row[-1].rstrip("%")) == pytest.approx(100.0, abs=1.0)


def test_robot_check_lists_joints_that_are_slow_to_start(tmp_path: Path) -> None:
    (tmp_path / "robot.xml").write_text(FALLING.replace("STIFF", "0"))
    for acceleration, expected in (
        (7.0, "loose (0.45 of 1)"),
        (6.0, "turn (0.9 of 1), loose (0.45 of 1)"),
    ):
        yaml = YAML.replace("5.0}", f"{acceleration}}}").replace("5.0,", "3.0,")
        (tmp_path / "robot.yaml").write_text(yaml)
        assert check_robot(load_robot(tmp_path / "robot.yaml"))[SLOW] == expected


def test_robot_check_refuses_a_simulation_that_does_not_stand_still(tmp_path: Path) -> None:
    (tmp_path / "robot.yaml").write_text(YAML)
    (tmp_path / "robot.xml").write_text(FALLING.replace("STIFF", "0"))
    assert float(check_robot(load_robot(tmp_path / "robot.yaml"))[DRIFT]) < 0.01
    (tmp_path / "robot.xml").write_text(FALLING.replace("STIFF", "50"))
    with pytest.raises(RobotError, match="does not stand still in simulation"):
        check_robot(load_robot(tmp_path / "robot.yaml"))


def test_robot_check_refuses_a_robot_that_always_touches_itself(tmp_path: Path) -> None:
    model = (GANTRY.parent / "robot.xml").read_text()
    ball = '<geom type="sphere" size="0.5" pos="0 0 0.5" mass="1"/>'
    (tmp_path / "robot.xml").write_text(model.replace('mass="0.1"/>', f'mass="0.1"/>{ball}'))
    (tmp_path / "robot.yaml").write_text(GANTRY.read_text())
    with pytest.raises(RobotError, match="collides with itself"):
        check_robot(load_robot(tmp_path / "robot.yaml"))
