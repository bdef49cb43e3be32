"""Commands that tell: list, robot show, robot check, help."""

import json
from pathlib import Path

import pytest

from polyreach.cli import COMMANDS, main
from polyreach.robot_report import check_robot
from polyreach_description import RobotError, load_robot

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in COMMANDS)


def test_list_tells_methods_robots_and_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"digrad", "ddpg"} <= set(listed["methods"])
    assert listed["robots"]["planar8"]["effectors"] == ["left", "middle", "right"]
    assert any(path.endswith("planar8-digrad.onnx") for path in listed["policies"])


@pytest.mark.parametrize(
    "robot", ["planar8", "humanoid27", str(GANTRY)], ids=lambda r: Path(r).parent.name or r
)
def test_robot_check_tells_what_it_found(robot: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "check", robot]) == 0
    out = capsys.readouterr().out
    found = load_robot(robot)
    assert f"robot '{found.name}' is fine" in out
    for name in (*found.effector_names, *found.shared_joints):
        assert name in out
    assert "forward kinematics against MuJoCo [m]" in out


def test_robot_show_is_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "humanoid27", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["held joints"]) == 14 and len(shown["joints"]) == 13
    assert shown["joints"][0]["unit"] == "rad"


def test_robot_check_refuses_a_simulation_that_does_not_stand_still(tmp_path: Path) -> None:
    model = (GANTRY.parent / "robot.xml").read_text()
    ball = '<geom type="sphere" size="0.5" pos="0 0 0.5" mass="1"/>'
    (tmp_path / "robot.xml").write_text(model.replace('mass="0.1"/>', f'mass="0.1"/>{ball}'))
    (tmp_path / "robot.yaml").write_text(GANTRY.read_text())
    with pytest.raises(RobotError, match="(does not stand still|collides with itself)"):
        check_robot(load_robot(tmp_path / "robot.yaml"))
