"""Joints that follow others: kinematics, limits, home, simulation and the URDF of such robots."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from polyreach.robot.drive_check import drift_at_rest, speeds_reached
from polyreach_description import KinematicTree, Robot, RobotError, load_robot
from polyreach_description.urdf_export import robot_to_urdf

HAND = Path(__file__).parents[1] / "robots" / "hand" / "robot.yaml"
Array = np.ndarray


@pytest.fixture
def hand() -> Robot:
    return load_robot(HAND)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """The hand with keys of its yaml and text of its model replaced."""

    def edit(old: str = "", new: str = "", **changes: object) -> Path:
        shutil.copytree(HAND.parent, tmp_path / "hand")
        path, model = tmp_path / "hand" / "robot.yaml", tmp_path / "hand" / "robot.xml"
        assert old in model.read_text()
        model.write_text(model.read_text().replace(old, new))
        content = {**yaml.safe_load(path.read_text()), **changes}
        path.write_text(yaml.safe_dump(content))
        return path

    return edit


def draw(robot: Robot, count: int) -> Array:
    low, high = robot.joint_pos_limits.T
    return np.random.default_rng(3).uniform(low, high, (count, len(low)))


def by_exponentials(tree: KinematicTree, joint_pos: Array) -> Array:
    """Effector positions (E, 3) as the product of the tree's exponentials, one after the other."""
    values = tree.coupling @ joint_pos + tree.offset - tree.reference
    points = []
    for point, joint in zip(tree.effector, tree.effector_parent, strict=True):
        point = point.copy()
        while joint >= 0:
            axis, anchor = tree.axis[joint], tree.anchor[joint]
            if tree.is_slide[joint]:
                point = point + axis * values[joint]
            else:
                matrix = np.zeros(9)
                quaternion = np.zeros(4)
                mujoco.mju_axisAngle2Quat(quaternion, axis, values[joint])
                mujoco.mju_quat2Mat(matrix, quaternion)
                point = anchor + matrix.reshape(3, 3) @ (point - anchor)
            joint = tree.parent[joint]
        points.append(point)
    return np.array(points)


def test_followers_are_where_their_leaders_put_them(hand: Robot) -> None:
    names = [hand.model.joint(joint).name for joint in range(hand.model.njnt)]
    qpos = dict(zip(names, hand.qpos([0.1, 0.4, -0.1, 0.6]), strict=True))
    expected = {
        "index_side": 0.1,
        "index_bend": 0.4,
        "index_tip": 0.3 + 0.1 + 0.8 * (0.4 - 0.1),
        "ring_side": -0.1,
        "ring_bend": 0.6,
        "ring_middle": 0.7 * 0.6 + 0.2,
        "ring_extend": 0.02 * (0.7 * 0.6 + 0.2),
    }
    assert qpos == pytest.approx(expected)
    assert hand.held_joints == () and hand.joint_names == tuple(names[i] for i in (0, 1, 3, 4))


def test_the_tree_has_the_screws_of_followers(hand: Robot) -> None:
    tree = hand.tree
    assert len(tree.parent) == 7 and tree.controlled.tolist() == [0, 1, 3, 4]
    assert tree.action_sets.tolist() == [[True, True, False, False], [False, False, True, True]]
    for joint_pos in draw(hand, 20):
        expected = hand.forward_kinematics(joint_pos)
        assert by_exponentials(tree, joint_pos) == pytest.approx(expected, abs=1e-9)


def test_limits_keep_followers_in_their_ranges(hand: Robot) -> None:
    low, high = hand.joint_pos_limits.T
    # index_tip = 0.32 + 0.8 index_bend, of -0.3 to 1.2: -0.775 to 1.1, of -0.2 to 1.5
    # ring_middle = 0.2 + 0.7 ring_bend, of 0 to 1.5: -0.286 to 1.857, of -0.2 to 1.5
    # ring_extend = 0.004 + 0.014 ring_bend, of 0 to 0.03: -0.286 to 1.857
    assert low == pytest.approx([-0.4, -0.2, -0.4, -0.2])
    assert high == pytest.approx([0.4, 1.1, 0.4, 1.5])


def test_followers_move_with_their_leaders_in_simulation(hand: Robot) -> None:
    assert speeds_reached(hand) == pytest.approx(1.0, abs=0.02)
    assert drift_at_rest(hand) < 1e-3
    model = hand.simulation_model()
    assert model.nu == 4 and model.neq == 3  # one equality is the model's own
    data = hand.data_at_home(model)
    data.ctrl[:] = hand.simulation_ctrl([0.5, 1.0, -0.5, 1.0])
    while data.time < 0.5:
        mujoco.mj_step(model, data)
    followed = hand.qpos(data.qpos[hand.qpos_adr])
    assert np.abs(data.qpos - hand.qpos(hand.home)).min() > 0.005
    assert data.qpos == pytest.approx(followed, abs=0.01)


def test_a_default_of_the_model_does_not_untie_added_followers(edited: Callable) -> None:
    robot = load_robot(edited("<default>", '<default><equality active="false"/>'))
    model = robot.simulation_model()
    # that of the model itself has its default
    assert model.neq == 3 and model.eq_active0.sum() == 2


def test_self_collision_is_that_of_the_followers_too(edited: Callable) -> None:
    wall = '<body name="palm"><geom type="box" size="0.01 0.01 0.01" pos="0.13 -0.03 -0.06"/>'
    robot = load_robot(edited('<body name="palm">', wall))
    touching = [robot.in_self_collision([0.0, 0.0, 0.0, bend]) for bend in (0.0, 0.8)]
    assert touching == [False, True]
    data = robot.data_at_home()
    robot.write_qpos(data.qpos, [0.0, 0.0, 0.0, 0.8])
    mujoco.mj_forward(robot.model, data)
    bodies = {robot.model.body(body).name for body in robot.model.geom_bodyid[data.contact.geom[0]]}
    assert "palm" in bodies and bodies & {"ring_3", "ring_4"}


def test_the_urdf_has_mimic_joints_and_is_the_same_robot(hand: Robot, tmp_path: Path) -> None:
    (tmp_path / "hand.urdf").write_text(robot_to_urdf(hand))
    content = yaml.safe_load(HAND.read_text())
    del content["coupled_joints"]
    content["effectors"] = {name: {"body": f"{name}_effector"} for name in hand.effector_names}
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump({**content, "model": "hand.urdf"}))
    again = load_robot(path)
    assert again.tree.coupling == pytest.approx(hand.tree.coupling)
    for joint_pos in draw(hand, 5):
        expected = hand.forward_kinematics(joint_pos)
        assert again.forward_kinematics(joint_pos) == pytest.approx(expected, abs=1e-6)
    held = [joint.name for joint in again.held_joints]
    assert held == []


def test_followers_of_held_joints_are_held_where_these_put_them(edited: Callable) -> None:
    content = yaml.safe_load(HAND.read_text())
    del content["joints"]["ring_bend"]
    robot = load_robot(edited(joints=content["joints"]))
    held = {joint.name: joint.value for joint in robot.held_joints}
    assert held == pytest.approx(
        {"ring_bend": 0.5, "ring_middle": 0.55, "ring_extend": 0.011}, abs=1e-12
    )


def test_a_follower_that_moves_no_effector_moves_and_is_not_in_the_tree(edited: Callable) -> None:
    effectors = {"index": {"body": "index_3"}, "ring": {"body": "ring_2", "offset": [0.1, 0, 0]}}
    robot = load_robot(edited(effectors=effectors))
    assert len(robot.tree.parent) == 5 and len(robot.moved.ids) == 7


def test_coupling_is_part_of_the_digest_only_where_there_is_some(edited: Callable) -> None:
    path = edited()
    digest = load_robot(path).sha256
    content = yaml.safe_load(path.read_text())
    content["coupled_joints"]["ring_middle"]["ratio"] = 0.71
    path.write_text(yaml.safe_dump(content))
    assert load_robot(path).sha256 != digest
    shipped = load_robot("planar8").sha256  # as in the policy files of 0.1.0
    assert shipped == "d38c50f162cdc8d4cb79c8677eb26803dac85094f709e16e005a0ff2e8c56c91"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"joints": {"index_tip": {}}}, ["'index_tip' follows joint 'index_bend'", "remove it"]),
        ({"coupled_joints": {"ring_middle": {"follows": "nose"}}}, ["unknown joint 'nose'"]),
        ({"coupled_joints": {"nose": {"follows": "ring_bend"}}}, ["unknown joint 'nose'"]),
        ({"coupled_joints": {"ring_middle": {"ratio": 2.0}}}, ["'ring_middle' needs 'follows"]),
        (
            {"coupled_joints": {"index_tip": {"follows": "index_side"}}},
            ["'index_tip' of 'coupled_joints' follows a joint in the model already"],
        ),
        (
            {
                "coupled_joints": {
                    "ring_middle": {"follows": "ring_extend"},
                    "ring_extend": {"follows": "ring_middle"},
                }
            },
            ["joints follow each other: ring_extend, ring_middle"],
        ),
        (
            {"coupled_joints": {"ring_middle": {"follows": "ring_bend", "offset": 5.0}}},
            [
                "'ring_bend' cannot move within the range of its follower 'ring_middle'",
                "ratio and offset",
            ],
        ),
        ({"home": {"ring_middle": 0.3}}, ["home of joint 'ring_middle' is given", "'ring_bend'"]),
        ({"home": {"index_bend": 1.2}}, ["home of joint 'index_bend' is 1.2", "-0.2 to 1.1"]),
    ],
    ids=[
        "controlled",
        "leader",
        "follower",
        "no leader",
        "twice",
        "circle",
        "range",
        "home",
        "limit",
    ],
)
def test_errors_are_one_sentence(
    edited: Callable, changes: dict[str, dict], words: list[str]
) -> None:
    limits = {"velocity": 2.0, "acceleration": 20.0}
    if "joints" in changes:
        joints = yaml.safe_load(HAND.read_text())["joints"]
        changes = {"joints": {**joints, **dict.fromkeys(changes["joints"], limits)}}
    with pytest.raises(RobotError) as caught:
        load_robot(edited(**changes))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_polynomial_of_a_controlled_joint_must_be_linear(edited: Callable) -> None:
    path = edited("0.1 0.8 0 0 0", "0.1 0.8 0.3 0 0")
    with pytest.raises(RobotError, match="'index_tip' .* 'index_bend' by a polynomial"):
        load_robot(path)
