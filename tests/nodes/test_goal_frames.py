"""Goals in frames of links and effectors, without ROS."""

from itertools import pairwise

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.client.status import decode, encode
from polyreach_nodes.control.goal_frames import LinkFrames, loop_through
from polyreach_nodes.control.goals import Goals
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.ros.markers import markers
from polyreach_nodes.ros.reports import controller_status

NOW = 100.0
ROBOTS = {name: load_robot(name) for name in ("planar8", "humanoid27", "dual7")}
CONTROLS: dict[str, ReachControl] = {}


def control_of(name: str) -> ReachControl:
    """A controller at rest at home, with a joint state."""
    if name not in CONTROLS:
        CONTROLS[name] = ReachControl(ROBOTS[name], Policy.load(find_policy(name), ROBOTS[name]))
    control = CONTROLS[name]
    control.activate()
    control.watchdog.halted, control.watchdog.fault = False, ""
    control.pipeline.proximity.set_workspace((-100.0,) * 3 + (100.0,) * 3)
    control._last_tick_s = NOW
    be_at(control, ROBOTS[name].home, NOW)
    return control


def hold_all(control: ReachControl) -> None:
    """Give every effector a goal where it is at home."""
    robot = control.robot
    for effector, place, turned in zip(
        robot.effector_names, *robot.effector_poses(robot.home), strict=True
    ):
        assert control.goals.set(effector, "", tuple(place), NOW, tuple(turned)) == ""


def be_at(control: ReachControl, joint_pos: np.ndarray, now_s: float) -> None:
    control.joint_states.forget()
    control.receive(list(control.robot.joint_names), joint_pos.tolist(), now_s)


def pose_by_mujoco(robot: Robot, frame: str, joint_pos: np.ndarray) -> np.ndarray:
    """The frame's pose (4, 4) in the base frame, from poses in the world of a model and data of its
    own.
    """
    model = robot.spec().compile()
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(model, data)

    def pose(place: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        result = np.eye(4)
        result[:3, :3], result[:3, 3] = matrix.reshape(3, 3), place
        return result

    sites = [model.site(i).name for i in range(model.nsite)]
    bodies = [model.body(i).name for i in range(model.nbody)]
    if frame in robot.effector_names and frame not in bodies + sites:
        frame = model.site(int(robot.site_ids[robot.effector_names.index(frame)])).name
    element = data.body(frame) if frame in bodies else data.site(frame)
    base = data.body(robot.base_frame)
    return np.linalg.inv(pose(base.xpos, base.xmat)) @ pose(element.xpos, element.xmat)


@pytest.mark.parametrize("name", ROBOTS)
@settings(max_examples=25)
@given(data=st.data())
def test_goals_in_frames_are_where_mujocos_kinematics_puts_them(
    name: str, data: st.DataObject
) -> None:
    robot, control = ROBOTS[name], control_of(name)
    goals, frames = control.goals, control.goals.frames
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    low, high = robot.joint_pos_limits.T
    before, after = rng.uniform(low, high), rng.uniform(low, high)
    be_at(control, before, NOW)
    hold_all(control)
    effector = data.draw(st.sampled_from(robot.effector_names))
    index = robot.effector_names.index(effector)
    legal = [frame for frame in frames.links.names if index not in frames.movers(frame)]
    frame = data.draw(st.sampled_from(legal))
    place, turned = rng.uniform(-1.0, 1.0, 3), Rotation.random(random_state=seed)
    given_goal = tuple(place), tuple(turned.as_quat())
    assert goals.set(effector, frame, given_goal[0], NOW, given_goal[1]) == ""
    for joint_pos in (before, after):
        goals.follow(joint_pos)
        assert not goals.not_followed
        pose = pose_by_mujoco(robot, frame, joint_pos)
        expected = pose @ np.append(place, 1.0)
        assert goals.positions[index] == pytest.approx(expected[:3], abs=1e-9)
        if robot.oriented[index]:
            wanted = Rotation.from_matrix(pose[:3, :3]) * turned
            got = Rotation.from_quat(goals.orientations[index])
            assert (wanted.inv() * got).magnitude() < 1e-7
        else:
            assert goals.orientations[index].tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ROBOTS)
def test_the_frame_of_an_effector_is_where_the_product_of_exponentials_puts_it(name: str) -> None:
    torch = pytest.importorskip("torch")
    from polyreach.robot.kinematics import ForwardKinematics

    robot = ROBOTS[name]
    links = LinkFrames(robot, lambda: robot.qpos(robot.home))
    for joint_pos in robot.sample_configuration(np.random.default_rng(3), 20):
        links.update(joint_pos)
        inputs = torch.tensor(joint_pos[None], dtype=torch.float32)
        places = ForwardKinematics(robot.tree)(inputs).effector[0].numpy()
        for effector, site, place in zip(
            robot.effector_names, robot.site_ids.tolist(), places, strict=True
        ):
            assert links.pose(robot.model.site(site).name)[0] == pytest.approx(place, abs=1e-5)
            if effector not in [robot.model.body(i).name for i in range(robot.model.nbody)]:
                assert links.pose(effector)[0] == pytest.approx(place, abs=1e-5)


def test_joints_that_are_held_count_where_they_are() -> None:
    robot, control = ROBOTS["humanoid27"], control_of("humanoid27")
    held = next(joint for joint in robot.held_joints if not joint.carries)
    body = int(robot.model.joint(held.name).bodyid[0])
    frame = robot.model.body(body).name
    names = [*robot.joint_names, held.name]
    control.receive(names, [*robot.home.tolist(), held.value + 0.3], NOW)
    control.goals.frames.update()
    data = robot.data_at_home()
    data.qpos[held.qpos_adr] += 0.3
    mujoco.mj_kinematics(robot.model, data)
    expected = data.xmat[robot.base_body].reshape(3, 3).T @ data.xmat[body].reshape(3, 3)
    assert control.goals.frames.links.pose(frame)[1] == pytest.approx(expected, abs=1e-9)
    control.pipeline.proximity.hold(held.qpos_adr, held.value)


OWN = {  # the goal's effector, and frames that it moves
    "planar8": {"left": "left left_tip left_1_link", "right": "right right_1_link right_3_link"},
    "humanoid27": {"left_hand": "left_hand left_palm left_forearm left_upper_arm"},
    "dual7": {"left": "left left_tip left_hand left_finger_1_link left_shoulder"},
}
LEGAL = {
    "planar8": {"left": "shared_1_link shared_2_link middle middle_1_link right_tip"},
    "humanoid27": {"left_hand": "chest_link waist_link neck_link right_hand right_upper_arm"},
    "dual7": {"left": "torso right right_hand right_finger_1_link right_shoulder"},
}


@pytest.mark.parametrize("name", ROBOTS)
def test_a_frame_that_the_effector_moves_itself_is_refused_and_others_are_not(name: str) -> None:
    control = control_of(name)
    turned = (0.0, 0.0, 0.0, 1.0)
    hold_all(control)
    for effector, frames in OWN[name].items():
        for frame in frames.split():
            reason = control.goals.set(effector, frame, (0.1, 0.0, 0.0), NOW, turned)
            assert f"frame '{frame}' moves with '{effector}' itself: the goal would run" in reason
            assert not control.goals.framed
    for effector, frames in LEGAL[name].items():
        for frame in frames.split():
            assert control.goals.set(effector, frame, (0.1, 0.0, 0.0), NOW, turned) == ""


def test_goals_that_follow_each_other_are_refused() -> None:
    control = control_of("planar8")
    hold_all(control)
    goals, give = control.goals, (0.1, 0.0, 0.0)
    assert goals.set("left", "middle", give, NOW) == ""
    assert goals.set("middle", "right", give, NOW) == ""
    reason = goals.set("right", "left_1_link", give, NOW)
    assert reason == (
        "goal of 'right' rejected: frame 'left_1_link' moves with 'right' itself, by way of the "
        "goal of 'left' and the goal of 'middle': the goal would run away"
    )
    # a loop ends with a goal that does not move, or moves with shared joints only
    assert goals.set("middle", "shared_2_link", give, NOW) == ""
    assert goals.set("right", "left_1_link", give, NOW) == ""
    assert "by way of" in goals.set("middle", "right", give, NOW)
    assert goals.set("right", "", give, NOW) == ""
    assert goals.set("middle", "right", give, NOW) == ""
    assert set(goals.followed) == set(goals.framed) == {0, 1}
    goals.clear_all()
    assert not goals.followed and not goals.framed


@given(
    st.dictionaries(st.integers(0, 4), st.frozensets(st.integers(0, 4)), max_size=5),
    st.integers(0, 4),
    st.frozensets(st.integers(0, 4)),
)
def test_loops_are_those_of_the_reachability_matrix(
    frames: dict[int, frozenset[int]], effector: int, frame: frozenset[int]
) -> None:
    edges = np.zeros((5, 5), dtype=int)
    for source, movers in frames.items():
        edges[source, list(movers)] = 1
    reachable = np.linalg.matrix_power(np.eye(5, dtype=int) + edges, 5) > 0
    path = loop_through(effector, frame, frames)
    assert bool(path) == any(reachable[mover, effector] for mover in frame)
    if path:
        assert path[0] in frame and path[-1] == effector
        assert all(edges[pair] for pair in pairwise(path))


@pytest.mark.parametrize(
    ("frame", "position", "reason"),
    [
        ("camera", (0.1, 0.0, 0.0), "frame is 'camera', but must be 'base_link' or empty, or of"),
        ("camera", (0.1, 0.0, 0.0), "the robot: left, left_tip, middle, middle_tip, right"),
        ("camera", (0.1, 0.0, 0.0), "and 6 more; frames of TF need the parameter use_tf"),
        ("world", (0.1, 0.0, 0.0), "frame is 'world', but must be"),
        ("x" * 10**6, (0.1, 0.0, 0.0), "frame is 'xxx"),
        ("right", (np.nan, 0.0, 0.0), "position is (nan, 0, 0), but must be finite"),
        ("right", (0.0, 1e308, 1e308), "more than 100 m away"),
        ("right", (0.0, 50.0, 0.0), "but the workspace is (-2, -2, -1) to (2, 2, 1)"),
    ],
)
def test_what_is_refused_in_frames(frame: str, position: tuple, reason: str) -> None:
    control = control_of("planar8")
    hold_all(control)
    assert control.goals.set("left", "right", (0.1, 0.0, 0.0), NOW) == ""
    control.pipeline.proximity.set_workspace((-2.0, -2.0, -1.0, 2.0, 2.0, 1.0))
    before, framed = control.goals.positions.copy(), dict(control.goals.framed)
    sentence = control.goals.set("left", frame, position, NOW)
    assert reason in sentence and len(sentence) < 400
    assert np.array_equal(control.goals.positions, before) and control.goals.framed == framed


def test_without_a_joint_state_frames_are_unknown() -> None:
    control = control_of("planar8")
    control.activate()
    assert "rejected: no joint state yet" in control.goals.set(
        "left", "shared_1_link", (0, 0, 0), NOW
    )
    assert control.goals.set("left", "base_link", (0.5, 0.0, 0.0), NOW) == ""


def test_a_goal_that_leaves_the_workspace_stays_and_is_not_reached() -> None:
    control = control_of("planar8")
    robot, goals = control.robot, control.goals
    names = list(robot.joint_names)
    hold_all(control)
    assert goals.set("left", "right", (0.05, 0.0, 0.0), NOW) == ""
    control.tick(NOW)
    outside = robot.home + 0.5
    goals.follow(outside)
    beyond = goals.positions[0].copy()
    goals.follow(robot.home)
    legal = goals.positions[0].copy()
    low, high = np.full(3, -100.0), np.full(3, 100.0)
    axis = int(np.abs(beyond - legal).argmax())
    wall = low if beyond[axis] < legal[axis] else high
    wall[axis] = (beyond + legal)[axis] / 2  # between the two
    control.pipeline.proximity.set_workspace((*low, *high))
    goals.follow(outside)
    assert goals.positions[0].tolist() == legal.tolist()
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert "goal of 'left' does not follow frame 'right': position is (" in status.not_followed
    assert status.not_followed in status.message
    assert not status.reached and status.effector("left").error is None
    assert status.effector("left").goal == tuple(legal)
    assert decode(encode(status)).not_followed == status.not_followed
    control.receive(names, robot.home.tolist(), NOW + 0.01)
    control.tick(NOW + 0.01)
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert status.not_followed == "" and status.effector("left").error is not None


def test_a_model_that_computes_nan_holds_the_goal() -> None:
    control = control_of("planar8")
    hold_all(control)
    goals = control.goals
    assert goals.set("left", "right", (0.05, 0.0, 0.0), NOW) == ""
    before = goals.positions.copy()
    goals.follow(np.full(8, np.nan))
    assert np.array_equal(goals.positions, before)
    assert "must be finite" in goals.not_followed[0]


class Recorder:
    """A policy that records its inputs and moves the joints of the right effector."""

    takes_obstacles = False

    def __init__(self) -> None:
        self.goals: list[np.ndarray] = []

    def compute(self, inputs: PolicyInputs) -> PolicyOutputs:
        self.goals.append(inputs.goals.copy())
        return PolicyOutputs(0.3 * (np.arange(8) >= 5), np.zeros((3, 3)))


def test_policy_status_and_markers_have_the_goal_in_the_base_frame() -> None:
    control = control_of("planar8")
    robot, policy, recorder = control.robot, control.pipeline.policy, Recorder()
    control.pipeline.policy = recorder  # type: ignore[assignment]
    try:
        hold_all(control)
        assert control.goals.set("left", "right", (0.05, 0.02, 0.0), NOW) == ""
        joint_pos, now_s = robot.home.copy(), NOW
        for period in range(20):
            now_s = NOW + (period + 1) * control.period_s
            control.receive(list(robot.joint_names), joint_pos.tolist(), now_s)
            command = control.tick(now_s, control.period_s)
            pose = pose_by_mujoco(robot, "right_tip", joint_pos)
            expected = (pose @ [0.05, 0.02, 0.0, 1.0])[:3]
            assert recorder.goals[-1][0] == pytest.approx(expected, abs=1e-9)
            joint_pos = joint_pos + control.period_s * command
    finally:
        control.pipeline.policy = policy
    assert np.linalg.norm(recorder.goals[-1] - recorder.goals[0]) > 0.05
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    left = status.effector("left")
    assert left.goal == tuple(recorder.goals[-1][0])
    assert left.given_pose == ("right", (0.05, 0.02, 0.0), None)
    assert decode(encode(status)).effector("left") == left
    marker = next(m for m in markers(control).markers if (m.ns, m.id) == ("goals", 0))
    assert marker.header.frame_id == "base_link"
    assert marker.pose.position.x == pytest.approx(left.goal[0])
    assert control.state(now_s) is State.ACTIVE


def test_without_goals_in_frames_no_kinematics_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = control_of("planar8")
    hold_all(control)

    def refuse(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(LinkFrames, "update", refuse)
    assert control.goals.set("left", "", (0.5, 0.1, 0.0), NOW) == ""
    control.tick(NOW)
    assert control.watchdog.fault == ""
    with pytest.raises(AssertionError, match="computed"):
        control.goals.set("left", "right", (0.1, 0.0, 0.0), NOW)


def test_an_effector_that_moves_the_frame_needs_a_goal() -> None:
    control = control_of("planar8")
    goals, home = control.goals, control.robot.home
    reason = "frame 'right' moves with 'right', which has no goal: set its goal first"
    assert reason in goals.set("left", "right", (0.1, 0.0, 0.0), NOW)
    hold_all(control)
    assert goals.set("left", "right", (0.1, 0.0, 0.0), NOW) == ""
    goals.follow(home)
    before = goals.positions[0].tolist()
    goals.clear("right")
    goals.follow(home + 0.2)
    assert goals.positions[0].tolist() == before and reason in goals.not_followed[0]
    place = control.robot.forward_kinematics(home)[2]
    assert goals.set("right", "", tuple(place), NOW) == ""
    goals.follow(home + 0.2)
    assert not goals.not_followed and goals.positions[0].tolist() != before


def test_a_goal_that_flees_is_no_progress() -> None:
    """The goal keeps its distance from the effector: a frame that nobody is said to move."""
    control = control_of("planar8")
    goals, robot, policy = control.goals, control.robot, control.pipeline.policy
    goals.frames.links._movers = {name: frozenset() for name in goals.frames.links.names}
    control.pipeline.progress.set_timeout(2.0)
    try:
        assert goals.set("left", "left", (0.3, 0.3, 0.0), NOW) == ""
        joint_pos, now_s, states = robot.home.copy(), NOW, set()
        for period in range(round(12.0 / control.period_s)):
            now_s = NOW + (period + 1) * control.period_s
            control.receive(list(robot.joint_names), joint_pos.tolist(), now_s)
            joint_pos = joint_pos + control.period_s * control.tick(now_s, control.period_s)
            states.add(control.state(now_s))
    finally:
        del CONTROLS["planar8"]
    assert policy is control.pipeline.policy
    assert states & {State.BLOCKED, State.OSCILLATING}


FOLLOWERS = [("planar8", "left", "shared_1_link"), ("humanoid27", "left_hand", "chest_link")]


@pytest.mark.parametrize(("name", "effector", "frame"), FOLLOWERS)
def test_goals_in_links_of_shared_joints_are_reached_and_come_to_rest(
    name: str, effector: str, frame: str
) -> None:
    control, robot = control_of(name), ROBOTS[name]
    index = robot.effector_names.index(effector)
    links, rng = control.goals.frames.links, np.random.default_rng(1)
    for trial in range(2):
        joint_pos, there = robot.sample_configuration(rng, 2)
        links.update(there)
        origin, rotation = links.pose(frame)
        place = rotation.T @ (robot.forward_kinematics(there)[index] - origin)
        start_s = NOW + 100.0 * trial
        be_at(control, joint_pos, start_s)
        assert control.goals.set(effector, frame, tuple(place), start_s) == ""
        for period in range(round(6.0 / control.period_s)):
            now_s = start_s + (period + 1) * control.period_s
            control.receive(list(robot.joint_names), joint_pos.tolist(), now_s)
            command = control.tick(now_s, control.period_s)
            joint_pos = joint_pos + control.period_s * command
        distances, _ = control.goals.errors(joint_pos)
        assert distances[index] < 0.02 and np.abs(command).max() < 0.05
        control.goals.clear_all()


def test_a_goal_that_is_given_in_the_base_frame_leaves_its_frame() -> None:
    control = control_of("dual7")
    hold_all(control)
    goals = control.goals
    turned = (0.0, 0.0, 0.0, 1.0)
    assert isinstance(goals, Goals)
    assert goals.set("left", "right", (0.1, 0.0, 0.0), NOW, turned) == ""
    assert goals.set("left", "base_link", (0.5, 0.2, 0.8), NOW, turned) == ""
    assert not goals.followed and not goals.framed
    goals.follow(ROBOTS["dual7"].home + 0.1)
    assert goals.positions[0].tolist() == [0.5, 0.2, 0.8]
