"""Robots: what is computed from the tree, and one clear sentence for every mistake in a robot's
files.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from polyreach.robot.robot_report import near_links
from polyreach_description import RobotError, list_robots, load_robot

SIDES = ("left", "right")
ROBOTS = Path(__file__).parents[1] / "robots"


def test_planar8_has_the_action_sets_of_the_paper() -> None:
    robot = load_robot("planar8")
    assert robot.action_sets.sum(axis=1).tolist() == [3, 4, 5]
    assert robot.shared_joints == ("shared_1", "shared_2")
    assert robot.model.nbody - 1 - 1 >= 8 and len(robot.joint_names) == 8


def test_humanoid27_shares_its_torso() -> None:
    robot = load_robot("humanoid27")
    assert robot.model.njnt == 27 and len(robot.held_joints) == 14
    assert len(robot.shared_joints) == 5 and robot.action_sets.sum(axis=1).tolist() == [9, 9]


def test_dual7_shares_its_lift_and_holds_its_fingers() -> None:
    robot = load_robot("dual7")
    assert robot.shared_joints == ("lift",) and robot.action_sets.sum(axis=1).tolist() == [8, 8]
    assert [joint.carries for joint in robot.held_joints] == [False] * 4
    assert robot.effector_goals == ("pose", "pose")
    left, right = robot.forward_kinematics(robot.home)
    assert left * [1.0, -1.0, 1.0] == pytest.approx(right)  # the arms mirror each other
    masses = [
        robot.model.body_subtreemass[robot.model.body(f"{side}_shoulder").id] for side in SIDES
    ]
    assert masses == pytest.approx([16.1, 16.1])  # [kg]


@pytest.mark.parametrize("name", list_robots())
def test_home_is_clear_and_few_random_configurations_collide(name: str) -> None:
    robot = load_robot(name)
    low, high = robot.joint_pos_limits.T
    sample = np.random.default_rng(0).uniform(low, high, (500, len(low)))
    assert np.mean([robot.in_self_collision(joint_pos) for joint_pos in sample]) < 0.15
    assert near_links(robot) == {}


@pytest.mark.parametrize("name", list_robots())
def test_shipped_robots_have_limits_inertia_and_collision_geoms(name: str) -> None:
    robot = load_robot(name)
    model = robot.model
    assert model.jnt_limited.all()
    moving = [body for body in range(1, model.nbody) if model.body_jntnum[body]]
    assert (model.body_mass[moving] > 0).all() and (model.body_inertia[moving] > 0).all()
    assert any(model.geom_contype[geom] for geom in range(model.ngeom))
    free = robot.sample_configuration(np.random.default_rng(0), 50)
    assert not any(robot.in_self_collision(joint_pos) for joint_pos in free)


def test_humanoid_collides_when_its_arms_cross_its_body() -> None:
    robot = load_robot("humanoid27")
    low, high = robot.joint_pos_limits.T
    draws = np.random.default_rng(0).uniform(low, high, (500, len(low)))
    assert any(robot.in_self_collision(joint_pos) for joint_pos in draws)


@pytest.mark.parametrize("name", list_robots())
def test_simulated_servos_follow_a_velocity_and_hold_the_other_joints(name: str) -> None:
    robot = load_robot(name)
    model = robot.simulation_model()
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos(robot.home)
    wanted = 0.2 * robot.joint_vel_limits * np.where(np.arange(len(robot.home)) % 2, 1, -1)
    centre = robot.joint_pos_limits.mean(axis=1)
    wanted = np.where(robot.home < centre, abs(wanted), -abs(wanted))
    data.ctrl[:] = robot.simulation_ctrl(wanted)
    while data.time < 0.5:
        mujoco.mj_step(model, data)
    assert np.allclose(data.qvel[robot.dof_adr], wanted, atol=0.12)
    held = [joint.qpos_adr for joint in robot.held_joints]
    assert np.allclose(data.qpos[held], robot.held_home, atol=0.02)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Callable[[dict], None]], Path]:
    """A copy of the gantry robot with its yaml changed by a function."""

    def edit(change: Callable[[dict], None]) -> Path:
        shutil.copytree(ROBOTS / "gantry", tmp_path / "robot")
        path = tmp_path / "robot" / "robot.yaml"
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))
        return path

    return edit


def put(*keys: str, value: object) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def drop(*keys: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


MISTAKES = {
    "unknown site": (
        put("effectors", "left", value={"site": "nose"}),
        ["unknown site 'nose'", "left_tip, right_tip"],
    ),
    "unknown body": (
        put("effectors", "wrist", "body", value="nose"),
        ["unknown body 'nose'", "left_wrist"],
    ),
    "unknown joint": (
        put("joints", "knee", value={"velocity": 1.0, "acceleration": 1.0}),
        ["unknown joint 'knee'", "rail"],
    ),
    "unknown key": (put("colour", value="red"), ["unknown key 'colour'", "control_rate"]),
    "unknown effector key": (
        put("effectors", "left", value={"frame": "x"}),
        ["unknown key 'frame'", "site"],
    ),
    "missing key": (drop("control_rate"), ["'control_rate' is missing"]),
    "missing model": (put("model", value="none.xml"), ["none.xml", "does not exist"]),
    "missing velocity": (drop("joints", "rail", "velocity"), ["joint 'rail' needs 'velocity'"]),
    "degrees": (
        put("joints", "turn", "velocity", value=180),
        ["velocity of joint 'turn' is 180", "[rad/s]"],
    ),
    "millimetres": (put("joints", "rail", "velocity", value=20.0), ["slide joint", "[m/s]"]),
    "negative rate": (put("control_rate", value=-50), ["control_rate is -50"]),
    "text for a number": (put("control_rate", value="fast"), ["control_rate is 'fast'"]),
    "NaN": (
        put("joints", "rail", "velocity", value=float("nan")),
        ["velocity of joint 'rail' is nan"],
    ),
    "offset in millimetres": (
        put("effectors", "wrist", "offset", value=[0, 0, 50]),
        ["offset of effector 'wrist' is 50"],
    ),
    "same site twice": (
        put("effectors", "other", value={"site": "left_tip"}),
        ["'left' and 'other'", "duplicate"],
    ),
    "same body twice": (
        put("effectors", "other", value={"body": "left_wrist", "offset": [0, 0, 0.05]}),
        ["'other' and 'wrist'", "the same point"],
    ),
    "home outside": (put("home", "lamp", value=3.0), ["home of joint 'lamp' is 3", "-1 to 1"]),
    "no effectors": (put("effectors", value={}), ["'effectors' must map at least one name"]),
    "joint for nobody": (
        put("joints", "lamp", value={"velocity": 1.0, "acceleration": 1.0}),
        ["'lamp' moves no effector"],
    ),
    "effector on no joint": (
        put("effectors", "base", value={"body": "base"}),
        ["'base' is moved by no controlled joint"],
    ),
    "moving base": (
        put("base_frame", value="column"),
        ["base_frame 'column' moves with", "'tilt'"],
    ),
    "unknown base": (
        put("base_frame", value="bsae"),
        ["unknown base_frame 'bsae'", "base, carriage"],
    ),
    "no ROS name": (
        put("effectors", "left-hand", value={"site": "left_tip"}),
        ["'left-hand'", "ROS topic"],
    ),
    "list for a mapping": (put("joints", value=["rail"]), ["'joints' must map"]),
}


@pytest.mark.parametrize(("change", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_sentence(
    edited: Callable, change: Callable[[dict], None], words: list[str]
) -> None:
    path = edited(change)
    with pytest.raises(RobotError) as caught:
        load_robot(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    for word in words:
        assert word in text


def replace_in_model(path: Path, old: str, new: str) -> None:
    model = path.parent / "robot.xml"
    assert old in model.read_text()
    model.write_text(model.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            ' range="-1 1"/>\n          <geom type="capsule"',
            '/>\n          <geom type="capsule"',
            ["'tilt' has no position limits"],
        ),
        ('range="-1.5 1.5"', 'range="-90 90"', ["'turn' has range -90 to 90 rad", "degrees"]),
        (
            'name="rail" type="slide" axis="1 0.2 0" range="-0.4 0.4"',
            'name="rail" type="ball"',
            ["'rail' is of type ball"],
        ),
        ("</mujoco>", "", ["MuJoCo cannot load", "robot.xml"]),
        (
            '<option timestep="0.002"/>',
            '<option><flag contact="disable"/></option>',
            ['<flag contact="disable"/>', "no self-collision could be seen"],
        ),
        (
            '<option timestep="0.002"/>',
            '<option><flag constraint="disable"/></option>',
            ['<flag constraint="disable"/>'],
        ),
        *(
            ("</mujoco>", f"{added}</mujoco>", words)
            for added, words in (
                (
                    '<equality><weld name="grip" body1="left_wrist" body2="right_arm"/></equality>',
                    ["equality 'grip' (weld) ties controlled joints", "closed loops"],
                ),
                (
                    '<equality><connect body1="left_wrist" anchor="0 0 0"/></equality>',
                    ["equality '0' (connect)", "to the base"],
                ),
                (
                    '<equality><joint name="lock" joint1="turn"/></equality>',
                    ["equality 'lock' (joint)"],
                ),
                (
                    '<tendon><fixed name="belt"><joint joint="turn" coef="1"/><joint joint="tilt" '
                    'coef="1"/></fixed></tendon><equality><tendon tendon1="belt"/></equality>',
                    ["equality '0' (tendon)"],
                ),
            )
        ),
    ],
    ids=[
        *("no limits", "degrees", "ball joint", "broken file", "no contacts", "no constraints"),
        *("weld", "connect", "locked", "belt"),
    ],
)
def test_errors_in_the_model_are_one_sentence(
    edited: Callable, old: str, new: str, words: list[str]
) -> None:
    path = edited(lambda content: None)
    replace_in_model(path, old, new)
    with pytest.raises(RobotError) as caught:
        load_robot(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_key_written_twice_is_refused(edited: Callable) -> None:
    path = edited(lambda content: None)
    path.write_text(path.read_text() + "name: again\n")
    with pytest.raises(RobotError, match="duplicate key 'name'"):
        load_robot(path)


def test_a_key_that_is_not_a_string_is_refused(edited: Callable) -> None:
    path = edited(lambda content: None)
    path.write_text(path.read_text() + "? [a, b]\n: 1\n")
    with pytest.raises(RobotError, match="key .* in line .* must be a name"):
        load_robot(path)


def test_the_digest_does_not_depend_on_print_options() -> None:
    expected = load_robot("planar8").sha256
    with np.printoptions(precision=2, linewidth=20, floatmode="fixed"):
        assert load_robot("planar8").sha256 == expected


def test_a_model_with_actuators_sensors_and_keyframes_is_simulated(edited: Callable) -> None:
    path = edited(lambda content: None)
    extra = """<actuator><position name="p" joint="turn"/></actuator>
      <sensor><actuatorpos actuator="p"/></sensor><keyframe><key ctrl="0.1"/></keyframe></mujoco>"""
    replace_in_model(path, "</mujoco>", extra)
    model = load_robot(path).simulation_model()
    assert model.nu == model.njnt and model.nkey == 0


def test_defaults_of_a_model_do_not_apply_to_what_is_added(edited: Callable) -> None:
    path = edited(lambda content: None)
    plain = load_robot(path)
    defaults = """<mujoco model="gantry"><default>
      <general ctrlrange="-0.1 0.1" gear="7" dyntype="filter" dynprm="3" forcerange="-1 1"/>
      <site euler="1 0 0"/></default>"""
    replace_in_model(path, '<mujoco model="gantry">', defaults)
    robot = load_robot(path)
    for part in ("gear", "dyntype", "gainprm", "biasprm", "ctrllimited", "forcelimited"):
        name = f"actuator_{part}"
        added, expected = (getattr(r.simulation_model(), name) for r in (robot, plain))
        assert np.array_equal(added, expected), part
    assert np.array_equal(robot.model.site("wrist_effector").quat, [1, 0, 0, 0])


def test_a_loop_behind_the_last_controlled_joint_is_legal(edited: Callable) -> None:
    path = edited(lambda content: None)
    fingers = """<site name="left_tip" pos="0.01 0.03 0.02"/>
      <body name="finger" pos="0 0.03 0"><joint axis="0 0 1" range="0 1"/>
        <geom type="sphere" size="0.005" mass="0.02" contype="0" conaffinity="0"/></body>
      <body name="thumb" pos="0.01 0.03 0"><joint axis="0 0 1" range="0 1"/>
        <geom type="sphere" size="0.005" mass="0.02" contype="0" conaffinity="0"/></body>"""
    replace_in_model(path, '<site name="left_tip" pos="0.01 0.03 0.02"/>', fingers)
    loop = '<equality><connect body1="finger" body2="thumb" anchor="0.01 0 0"/></equality></mujoco>'
    replace_in_model(path, "</mujoco>", loop)
    robot = load_robot(path)
    # joints without a name are held, too
    names = [joint.name for joint in robot.held_joints]
    assert names[0].startswith("unnamed_joint_") and len(set(names)) == len(names) == 3
    assert robot.simulation_model().nu == robot.model.njnt


def test_limits_written_once_for_several_joints(edited: Callable) -> None:
    path = edited(lambda content: None)
    content = yaml.safe_load(path.read_text())
    joints = "".join(f"  {name}: {{<<: *limits}}\n" for name in content.pop("joints"))
    head = yaml.safe_dump(content)
    first, *rest = joints.splitlines(keepends=True)
    anchor = first.replace("{<<: *limits}", "&limits {velocity: 1.0, acceleration: 5.0}")
    last = rest[-1].replace("{<<: *limits}", "{<<: *limits, velocity: 2.0}")
    path.write_text(head + "joints:\n" + anchor + "".join(rest[:-1]) + last)
    robot = load_robot(path)
    assert sorted(robot.joint_vel_limits) == [1.0] * (len(robot.joint_names) - 1) + [2.0]
    assert (robot.joint_acc_limits == 5.0).all()


def test_policies_use_speeds_that_a_joint_reaches_in_0_15_s() -> None:
    planar8, gantry = load_robot("planar8"), load_robot(ROBOTS / "gantry" / "robot.yaml")
    assert (planar8.action_speeds == planar8.joint_vel_limits).all()
    assert dict(zip(gantry.joint_names, gantry.action_speeds.round(9), strict=True)) == {
        "rail": 0.3,  # 0.15 s x 2 m/s^2, of 0.5 m/s
        "turn": 0.75,
        "tilt": 0.75,
        "left_elbow": 1.5,
        "left_extend": 0.3,
        "right_elbow": 1.5,
    }


def test_missing_files_and_names_are_refused() -> None:
    with pytest.raises(RobotError, match="no such robot file"):
        load_robot("nowhere/robot.yaml")
    with pytest.raises(
        RobotError, match="unknown robot 'planar9' .shipped: dual7, humanoid27, planar8"
    ):
        load_robot("planar9")


URDF = """<robot name="twin">
  <link name="base"/>
  <link name="shoulder"><inertial><mass value="1"/><origin xyz="0 0 0.1"/>
    INERTIA</inertial></link>
  <link name="left"><inertial><mass value="1"/>INERTIA</inertial></link>
  <link name="right"><inertial><mass value="1"/>INERTIA</inertial></link>
  <joint name="yaw" type="revolute"><parent link="base"/><child link="shoulder"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" velocity="2" effort="10"/></joint>
  <joint name="l" type="revolute">
    <parent link="shoulder"/><child link="left"/><origin xyz="0 0.3 0.2"/>
    <axis xyz="1 0 0"/>
    <limit lower="-1" upper="1" velocity="2" effort="10"/></joint>
  <joint name="r" type="prismatic">
    <parent link="shoulder"/><child link="right"/><origin xyz="0 -0.3 0.2"/>
    <axis xyz="1 0 0"/>
    <limit lower="-0.2" upper="0.2" velocity="1" effort="10"/></joint>
</robot>
""".replace("INERTIA", '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/>')


def test_a_urdf_is_a_robot(tmp_path: Path) -> None:
    (tmp_path / "twin.urdf").write_text(URDF)
    joint = {"velocity": 1.0, "acceleration": 4.0}
    content = {
        "name": "twin",
        "model": "twin.urdf",
        "base_frame": "base",
        "control_rate": 50.0,
        "effectors": {
            "left": {"body": "left", "offset": [0.0, 0.1, 0.0]},
            "right": {"body": "right"},
        },
        "joints": {"yaw": joint, "l": joint, "r": joint},
    }
    path = tmp_path / "twin.yaml"
    path.write_text(yaml.safe_dump(content))
    robot = load_robot(path)
    assert robot.shared_joints == ("yaw",)
    assert robot.action_sets.tolist() == [[True, True, False], [True, False, True]]
    assert np.allclose(
        robot.forward_kinematics([0.0, 0.0, 0.1]), [[0.0, 0.4, 0.2], [0.1, -0.3, 0.2]]
    )
