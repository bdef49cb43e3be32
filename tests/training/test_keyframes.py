"""A fixed base and a home out of a keyframe of the model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from polyreach_description import Robot, RobotError, load_robot

FLOATING = """<mujoco><compiler angle="radian"/><worldbody>
  <body name="lamp"><joint name="switch" axis="1 0 0" range="-1 1"/><geom size="0.01"/></body>
  <body name="pelvis" pos="0 0 0.7"><freejoint/><geom size="0.05"/>
    <body name="trunk" pos="0 0 0.1"><joint name="waist" axis="0 0 1" range="-1 1"/>
      <geom size="0.01"/>
      <body name="arm" pos="0 0.2 0"><joint name="elbow" axis="1 0 0" range="-0.5 2"/>
        <geom type="capsule" fromto="0 0.05 0 0 0.3 0" size="0.01"/></body></body></body>
  <body name="ball" pos="1 0 0"><joint name="socket" type="ball"/><geom size="0.01"/></body>
  </worldbody>
  <keyframe>KEYS</keyframe></mujoco>"""
# switch, position and quaternion of the pelvis, waist, elbow
STAND = '<key name="stand" qpos="0.1 0 0 0.6 1 0 0 0 0.2 2.01"/><key name="zero"/>'

Make = Callable[..., Robot]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(keys: str = STAND, ball: bool = False, **changes: object) -> Robot:
        model = FLOATING.replace("KEYS", keys)
        if not ball:
            model = model.replace('<joint name="socket" type="ball"/>', "")
        (tmp_path / "robot.xml").write_text(model)
        limits = {"velocity": 1.0, "acceleration": 5.0}
        content = {
            "name": "floating",
            "model": "robot.xml",
            "base_frame": "pelvis",
            "control_rate": 50.0,
            "effectors": {"hand": {"body": "arm", "offset": [0.0, 0.3, 0.0]}},
            "joints": {"waist": limits, "elbow": limits},
            "fixed_base": True,
            **changes,
        }
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_robot(path)

    return write


def test_a_floating_base_can_be_fixed(make: Make) -> None:
    with pytest.raises(RobotError, match="of type free, .*'fixed_base: true' in the robot.yaml"):
        make(fixed_base=False)
    robot = make()
    assert robot.model.nq == 3 and [joint.name for joint in robot.held_joints] == ["switch"]
    # the pelvis stays where the body is, and its frame is that of the goals
    data = robot.data_at_home()
    assert data.body("pelvis").xpos == pytest.approx([0.0, 0.0, 0.7])
    assert robot.forward_kinematics([np.pi / 2, 0.0])[0] == pytest.approx([-0.5, 0.0, 0.1])
    assert robot.simulation_model().nq == 3


def test_home_comes_from_a_keyframe_and_single_joints_from_home(make: Make) -> None:
    robot = make(home_keyframe="stand")
    # 2.01 rad is moved to the end of the range, 2 rad
    assert robot.home == pytest.approx([0.2, 2.0]) and robot.held_home == pytest.approx([0.1])
    robot = make(home_keyframe="stand", home={"waist": -0.3})
    assert robot.home == pytest.approx([-0.3, 2.0])
    assert make(home_keyframe="zero").home == pytest.approx([0.0, 0.0])


def test_keyframes_that_do_not_fit_are_dropped_with_the_free_joints(make: Make) -> None:
    keys = STAND + '<key name="arm" qpos="0.3 0.4"/>'
    assert make(keys).home == pytest.approx([0.0, 0.0])
    with pytest.raises(
        RobotError, match=r"unknown keyframe 'arm' .*\(the model has: stand, zero\)"
    ):
        make(keys, home_keyframe="arm")


def test_an_unknown_keyframe_is_refused(make: Make) -> None:
    with pytest.raises(
        RobotError, match=r"'sit' of 'home_keyframe' \(the model has: stand, zero\)"
    ):
        make(home_keyframe="sit")
    with pytest.raises(RobotError, match="none with a name"):
        make("", home_keyframe="sit")
    with pytest.raises(RobotError, match="fixed_base must be true or false, not 'yes'"):
        make(fixed_base="yes")


def test_only_free_joints_are_dropped(make: Make) -> None:
    with pytest.raises(RobotError, match="joint 'socket' is of type ball"):
        make('<key name="stand" qpos="0.1 0 0 0.6 1 0 0 0 0.2 2.01 1 0 0 0"/>', ball=True)
