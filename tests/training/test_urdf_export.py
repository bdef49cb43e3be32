"""The URDF of a robot describes the same robot as its MJCF."""

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from polyreach_description import Robot, RobotError, load_robot
from polyreach_description.urdf_export import MIN_MASS, robot_to_urdf

ROBOTS = Path(__file__).parents[1] / "robots"
SHIPPED = ("planar8", "humanoid27", "dual7")
GANTRY = ROBOTS / "gantry" / "robot.yaml"
ALL = [*SHIPPED, pytest.param(str(GANTRY), id="gantry")]


def from_urdf(robot: Robot, folder: Path) -> Robot:
    """The robot again, with its URDF as the model."""
    (folder / "robot.urdf").write_text(robot_to_urdf(robot))
    content = yaml.safe_load(robot.file.path.read_text())
    content["model"] = "robot.urdf"
    content["effectors"] = {
        effector: {"body": robot.model.site(site).name}
        for effector, site in zip(robot.effector_names, robot.site_ids, strict=True)
    }
    (folder / "robot.yaml").write_text(yaml.safe_dump(content))
    return load_robot(folder / "robot.yaml")


@pytest.fixture(params=ALL)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Robot, Robot]:
    robot = load_robot(request.param)
    return robot, from_urdf(robot, tmp_path)


def inertia(model: mujoco.MjModel, body: int) -> NDArray[np.float64]:
    """Inertia tensor (3, 3) [kg m^2] about the centre of mass, in the frame of the body."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, model.body_iquat[body])
    rotation = matrix.reshape(3, 3)
    return rotation @ np.diag(model.body_inertia[body]) @ rotation.T


def test_effectors_are_at_the_same_places(pair: tuple[Robot, Robot]) -> None:
    robot, copy = pair
    assert sorted(copy.joint_names) == sorted(robot.joint_names)
    order = [robot.joint_names.index(name) for name in copy.joint_names]
    low, high = robot.joint_pos_limits.T
    for joint_pos in np.random.default_rng(0).uniform(low, high, (1000, len(low))):
        expected = robot.forward_kinematics(joint_pos)
        assert np.allclose(copy.forward_kinematics(joint_pos[order]), expected, rtol=0, atol=1e-6)


def test_bodies_are_at_the_same_places_with_the_same_mass(pair: tuple[Robot, Robot]) -> None:
    robot, copy = pair
    between = copy.model.nbody - robot.model.nbody - len(robot.site_ids)
    total = copy.model.body_mass.sum()
    assert total == pytest.approx(robot.model.body_mass.sum() + between * MIN_MASS, rel=1e-8)
    rng = np.random.default_rng(1)
    first, second = mujoco.MjData(robot.model), mujoco.MjData(copy.model)
    for joint in range(robot.model.njnt):
        low, high = robot.model.jnt_range[joint]
        value = rng.uniform(low, high)
        other = copy.model.joint(robot.model.joint(joint).name).id
        first.qpos[robot.model.jnt_qposadr[joint]] = value
        second.qpos[copy.model.jnt_qposadr[other]] = value
    mujoco.mj_kinematics(robot.model, first)
    mujoco.mj_kinematics(copy.model, second)
    for body in range(1, robot.model.nbody):
        other = copy.model.body(robot.model.body(body).name).id
        assert second.xpos[other] == pytest.approx(first.xpos[body], abs=1e-6)
        assert second.xmat[other] == pytest.approx(first.xmat[body], abs=1e-6)
        assert copy.model.body_mass[other] == pytest.approx(robot.model.body_mass[body], rel=1e-8)
        assert copy.model.body_ipos[other] == pytest.approx(robot.model.body_ipos[body], abs=1e-8)
        expected = inertia(robot.model, body)
        tolerance = 1e-6 * np.abs(expected).max()
        assert np.allclose(inertia(copy.model, other), expected, rtol=0, atol=tolerance)


def test_limits_of_joints_and_of_command_interfaces(pair: tuple[Robot, Robot]) -> None:
    robot, _ = pair
    root = ElementTree.fromstring(robot_to_urdf(robot))
    joints = {joint.get("name"): joint for joint in root.iterfind("joint")}
    interfaces = {joint.get("name"): joint for joint in root.iterfind("ros2_control/joint")}
    assert list(interfaces) == [robot.model.joint(j).name for j in range(robot.model.njnt)]
    for name, (low, high), velocity in zip(
        robot.joint_names, robot.joint_pos_limits, robot.joint_vel_limits, strict=True
    ):
        limit = joints[name].find("limit")
        assert limit is not None
        assert float(limit.get("lower", "nan")) == pytest.approx(low, abs=1e-8)
        assert float(limit.get("upper", "nan")) == pytest.approx(high, abs=1e-8)
        assert float(limit.get("velocity", "nan")) == velocity
        commands = interfaces[name].findall("command_interface")
        assert [command.get("name") for command in commands] == ["velocity", "position"]
        ranges = [
            {p.get("name"): float(p.text or "nan") for p in command.iterfind("param")}
            for command in commands
        ]
        assert ranges[0] == {"min": -velocity, "max": velocity}
        assert ranges[1] == pytest.approx({"min": low, "max": high}, abs=1e-8)
    for held in robot.held_joints:
        assert interfaces[held.name].find("command_interface") is None
        value = interfaces[held.name].findtext("state_interface[@name='position']/param")
        assert float(value or "nan") == pytest.approx(held.value, abs=1e-8)
    for interface in interfaces.values():
        states = [state.get("name") for state in interface.iterfind("state_interface")]
        assert states == ["position", "velocity"]


def test_collision_shapes_enclose_the_same_space(tmp_path: Path) -> None:
    robot = load_robot("planar8")
    copy = from_urdf(robot, tmp_path)
    data, other = mujoco.MjData(robot.model), mujoco.MjData(copy.model)
    mujoco.mj_kinematics(robot.model, data)
    mujoco.mj_kinematics(copy.model, other)
    segment = np.empty(6)
    for geom in range(robot.model.ngeom):
        if not robot.model.geom_contype[geom]:
            continue
        name = robot.model.geom(geom).name
        tips = [copy.model.geom(f"{name}{suffix}").id for suffix in ("_start", "_end")]
        half = robot.model.geom_size[geom, 1] * data.geom_xmat[geom].reshape(3, 3)[:, 2]
        segment[:3], segment[3:] = data.geom_xpos[geom] - half, data.geom_xpos[geom] + half
        assert other.geom_xpos[tips].ravel() == pytest.approx(segment, abs=1e-8)
        assert copy.model.geom_size[tips, 0] == pytest.approx(robot.model.geom_size[geom, 0])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_file_is_up_to_date(name: str) -> None:
    robot = load_robot(name)
    shipped = robot.file.path.with_name("robot.urdf").read_text()
    assert shipped == robot_to_urdf(robot), f"write it again: polyreach robot urdf {name}"


def test_hardware_component_and_its_parameters() -> None:
    robot = load_robot("planar8")
    mock = ElementTree.fromstring(robot_to_urdf(robot))
    assert mock.findtext("ros2_control/hardware/plugin") == "mock_components/GenericSystem"
    assert mock.findtext("ros2_control/hardware/param[@name='calculate_dynamics']") == "true"
    text = robot_to_urdf(robot, "my_driver/Arm", {"ip": "10.0.0.2"})
    hardware = ElementTree.fromstring(text).find("ros2_control/hardware")
    assert hardware is not None
    assert hardware.findtext("plugin") == "my_driver/Arm"
    assert [(p.get("name"), p.text) for p in hardware.iterfind("param")] == [("ip", "10.0.0.2")]


def test_two_links_of_one_name_are_refused(tmp_path: Path) -> None:
    for file in ("robot.xml", "robot.yaml"):
        text = (GANTRY.parent / file).read_text()
        (tmp_path / file).write_text(text.replace("left_tip", "left_arm"))
    with pytest.raises(RobotError, match="two links would be named 'left_arm'"):
        robot_to_urdf(load_robot(tmp_path / "robot.yaml"))
