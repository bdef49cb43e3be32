"""The simulated drives: speeds reached against damping, friction and springs; standing still."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from polyreach.cli import main
from polyreach.robot import robot_report
from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.drive_check import drift_at_rest, speeds_reached
from polyreach.robot.robot_report import check_robot
from polyreach_description import Robot, RobotError, load_robot

ARM = """<mujoco><option timestep="0.004"/><compiler angle="radian"/><worldbody><body name="base">
  <body name="upper"><joint name="turn" axis="0 0 1" range="-2 2" UPPER/>
    <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.01" mass="0.1"/>
    <body name="fore" pos="0.32 0 0"><joint name="extend" type="slide" axis="1 0 0" range="0 0.5"
        FORE/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.01" mass="0.1"/></body></body>
  OTHER</body></worldbody></mujoco>"""

Make = Callable[..., Robot]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An arm of a hinge and a slide; text goes into its elements, other keys into its yaml."""

    def write(
        upper: str = "",
        fore: str = "",
        other: str = "",
        effort: float | None = None,
        **keys: object,
    ) -> Robot:
        model = ARM.replace("UPPER", upper).replace("FORE", fore).replace("OTHER", other)
        (tmp_path / "robot.xml").write_text(model)
        turn = {"velocity": 1.0, "acceleration": 10.0}
        content = {
            "name": "arm",
            "model": "robot.xml",
            "base_frame": "base",
            "control_rate": 50.0,
            "effectors": {"tip": {"body": "fore", "offset": [0.2, 0.1, 0.0]}},
            "joints": {
                "turn": turn if effort is None else {**turn, "effort": effort},
                "extend": {"velocity": 0.5, "acceleration": 5.0},
            },
            **keys,
        }
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_robot(path)

    return write


def test_joints_reach_their_speed_against_damping_friction_and_springs(make: Make) -> None:
    load = 'damping="5" frictionloss="2" stiffness="3" springref="1" armature="0.01"'
    robot = make(load, 'damping="40" frictionloss="8"')
    assert speeds_reached(robot) == pytest.approx(1.0, abs=0.01)


def test_a_spring_does_not_move_a_joint_at_rest(make: Make) -> None:
    robot = make('stiffness="3" springref="1" armature="0.01"', home={"turn": -0.5})
    assert drift_at_rest(robot) < 1e-9


def test_effort_limits_what_is_left_for_damping_beyond_friction(make: Make) -> None:
    robot = make('damping="2" frictionloss="0.5"', effort=1.5)
    # (1.5 - 0.5) N m against 2 N m s/rad is 0.5 rad/s, of 1 rad/s
    assert speeds_reached(robot) == pytest.approx([0.5, 1.0], abs=0.01)
    (warning,) = check_robot(robot)["warnings"]
    assert "'turn' 50%" in warning and "'extend'" not in warning


def test_a_robot_whose_bodies_capsules_misjudge_gets_a_warning(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = make()
    capsules = fit_capsules(robot)
    key = "random configurations whose distances policies misjudge"
    for share, text, warned in ((0.08, "8.0%", False), (0.123, "12.3%", True)):
        found = replace(capsules, misjudged=share)
        monkeypatch.setattr(robot_report, "fit_capsules", lambda robot, found=found: found)
        measured = check_robot(robot)
        assert measured[key] == text
        assert any("misjudge 12% of" in line for line in measured["warnings"]) == warned


def test_the_force_limit_of_the_model_applies_too(make: Make) -> None:
    robot = make('damping="2" frictionloss="0.5" actuatorfrcrange="-9 1.1"')
    assert speeds_reached(robot)[0] == pytest.approx((1.1 - 0.5) / 2, abs=0.01)


def test_effort_below_friction_is_an_error(make: Make) -> None:
    robot = make('frictionloss="2"', effort=1.5)
    with pytest.raises(
        RobotError, match="'turn' cannot move: .* limited to 1.5, its friction is 2"
    ):
        robot.simulation_model()


def wall(y: float) -> str:
    """A box beside the arm at home, whose surface is at y + 0.01 m from the arm's."""
    return f'<body name="wall" pos="0.25 {y + 0.12} 0"><geom type="box" size="0.1 0.1 0.1"/></body>'


def test_a_robot_that_does_not_stand_still_names_joint_and_links(make: Make) -> None:
    robot = make(other=wall(-0.05))
    words = r"joint 'turn' moves by .* rad within a second; .*\[upper, wall\].* touch"
    with pytest.raises(RobotError, match=words):
        drift_at_rest(robot)


def test_check_warns_of_a_home_in_self_collision(make: Make) -> None:
    measured = check_robot(make(other=wall(-0.012)))
    assert measured["self-collision at home"] == "[fore, wall], [upper, wall]"
    (warning,) = measured["warnings"]
    assert warning.startswith("at home [fore, wall], [upper, wall] touch")


def test_check_warns_of_many_self_collisions_and_names_the_links(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # x from 0.05 to 0.65 m, y from -0.15 m: hit from atan(-0.15 / 0.05) to pi / 2 - 0.05 / 0.3 rad,
    # some 2.7 rad of 4, by the upper link or the other one
    plate = '<body name="plate"><geom type="box" size="0.3 0.4 0.005" pos="0.35 0.25 0"/></body>'
    make(other=plate, home={"turn": -1.9})
    assert main(["robot", "check", str(tmp_path / "robot.yaml"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["check"]
    share = float(measured["random configurations in self-collision"].rstrip("%"))
    assert 60 < share < 75
    assert "[upper, plate] 6" in measured["links that touch most often in them"]
    assert len(measured["warnings"]) == 1
    assert main(["robot", "check", str(tmp_path / "robot.yaml")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "fine" not in out and f"warning: {share:.0f}% of random configurations" in out
