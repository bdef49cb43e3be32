"""Faulty joint states and goals, sent to one running controller."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from domains import reserved_domain
from rig import FakeHardware, launching, move, set_parameter
from scenarios import Probe, assert_within_limits, zero_delay
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from polyreach_description import Robot

PERIOD_S = 0.02
SCHEDULING_S = 0.3  # what a busy machine may add
pytestmark = pytest.mark.fault
Change = Callable[[JointState], JointState | None]


class Rig:
    """One controller for all cases of this file; each begins with a robot in motion."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.hardware, self._number = probe, FakeHardware(probe), 0

    def begin(self) -> None:
        """Healthy, and on the way to far goals."""
        self.hardware.fault = None
        self.hardware.resume()
        self.probe.call("resume")
        self.probe.call("clear_goals")
        self._number += 1
        move(self.probe, 0.4 if self._number % 2 else -0.4)
        held = [f"goal/{effector}" for effector in self.probe.robot.effector_names]
        self.probe.wait(lambda: all(map(self.probe.value, held)), "status with the goals")

    def inject(self, change: Change) -> float:
        """Change joint states from now on; returns when the first changed one was sent."""
        sent: list[float] = []

        def fault(message: JointState) -> JointState | None:
            sent.append(monotonic())
            return change(message)

        self.hardware.fault = fault
        self.probe.wait(lambda: bool(sent), "a changed joint state")
        return sent[0]


@pytest.fixture(scope="module")
def rig(planar8: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("faults")
    with reserved_domain() as domain, launching(folder, domain) as start:
        start("controller_node", {"autostart": True})
        with Probe(planar8, domain) as probe:
            yield Rig(probe)


def with_value(index: int, value: float) -> Change:
    def change(message: JointState) -> JointState:
        message.position[index] = value
        return message

    return change


def with_fields(**fields: Callable[[JointState], object]) -> Change:
    def change(message: JointState) -> JointState:
        for name, value in {name: make(message) for name, make in fields.items()}.items():
            setattr(message, name, value)
        return message

    return change


def older_and_older() -> Change:
    start_s = monotonic()

    def change(message: JointState) -> JointState:
        back_s = 1000.0 - 0.5 * (monotonic() - start_s)
        message.header.stamp = Time(sec=int(back_s), nanosec=int(back_s % 1 * 1e9))
        return message

    return change


def to_and_fro(step: float, always: bool = False) -> Change:
    count = [0]

    def change(message: JointState) -> JointState:
        count[0] += 1
        message.position[2] += step * (always or count[0] % 2)
        return message

    return change


STOPPING: dict[str, tuple[Callable[[], Change], str]] = {
    "one position NaN": (lambda: with_value(0, np.nan), "'shared_1' is nan"),
    "last position infinite": (lambda: with_value(7, np.inf), "'right_3' is inf"),
    "a position minus infinite": (lambda: with_value(4, -np.inf), "'middle_2' is -inf"),
    "a position of 1e300": (lambda: with_value(3, 1e300), "'middle_1' is 1e+300"),
    "a position of 20000 rad": (lambda: with_value(3, 2e4), "'middle_1' is 20000"),
    "all positions NaN": (
        lambda: with_fields(position=lambda m: [np.nan] * 8),
        "'shared_1' is nan",
    ),
    "one position missing": (
        lambda: with_fields(position=lambda m: m.position[:7]),
        "8 names, but 7 positions",
    ),
    "no positions": (lambda: with_fields(position=lambda m: []), "8 names, but 0 positions"),
    "too many positions": (
        lambda: with_fields(position=lambda m: [*m.position, 0.0]),
        "8 names, but 9 positions",
    ),
    "one joint missing": (
        lambda: with_fields(name=lambda m: m.name[1:], position=lambda m: m.position[1:]),
        "older than 0.030 s",
    ),
    "one joint renamed": (
        lambda: with_fields(name=lambda m: ["shared_one", *m.name[1:]]),
        "older than 0.030 s",
    ),
    "a joint named twice": (
        lambda: with_fields(
            name=lambda m: [*m.name, "left_1"], position=lambda m: [*m.position, 0.0]
        ),
        "names a joint twice",
    ),
    "no names": (lambda: with_fields(name=lambda m: [], position=lambda m: []), "older than"),
    "names of another robot": (
        lambda: with_fields(name=lambda m: [f"wheel_{i}" for i in range(8)]),
        "older than",
    ),
    "the same old stamps over and over, each older": (older_and_older, "older than"),
    "a position to and fro by 1 rad": (lambda: to_and_fro(1.0), "'left_1' jumped by"),
    "nothing at all": (lambda: lambda m: None, "older than"),
}


@pytest.mark.parametrize("case", STOPPING)
def test_implausible_joint_states_stop_the_robot(rig: Rig, case: str) -> None:
    make, reason = STOPPING[case]
    rig.begin()
    since_s = rig.inject(make())
    assert zero_delay(rig.probe, since_s, hold_s=0.2) <= 2 * PERIOD_S + SCHEDULING_S
    rig.probe.wait_state("STALE")
    assert reason in rig.probe.message
    rig.hardware.fault = None
    rig.probe.wait_moving()


def stuck() -> Change:
    first: list[list[float]] = []

    def change(message: JointState) -> JointState:
        first.append(list(message.position))
        message.position = first[0]
        return message

    return change


FAULTS: dict[str, tuple[Callable[[], Change], str]] = {
    "a joint that lost its zero": (lambda: to_and_fro(1.0, always=True), "stays there"),
    "joints that do not move": (stuck, "does not track its command"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_conditions_that_need_a_person_are_faults_until_resumed(rig: Rig, case: str) -> None:
    make, reason = FAULTS[case]
    rig.begin()
    rig.inject(make())
    rig.probe.wait_state("FAULT")
    assert reason in rig.probe.message
    count = len(rig.probe.commands)
    rig.hardware.fault = None
    sleep(0.3)
    assert all(command.is_zero for command in rig.probe.commands[count:])
    rig.probe.call("resume")
    rig.probe.wait(lambda: rig.probe.value("reached") == "true", "the goals")


def shuffled(message: JointState) -> JointState:
    order = np.random.default_rng(len(message.name)).permutation(len(message.name))
    message.name = [message.name[i] for i in order]
    message.position = [message.position[i] for i in order]
    return message


def reshuffled() -> Change:
    rng = np.random.default_rng(0)

    def change(message: JointState) -> JointState:
        order = rng.permutation(len(message.name))
        message.name = [message.name[i] for i in order]
        message.position = [message.position[i] for i in order]
        return message

    return change


def now_and_then_old() -> Change:
    """Every third message carries a stamp, and a position, of a second ago."""
    count = [0]

    def change(message: JointState) -> JointState:
        count[0] += 1
        stamp_s = monotonic() - (0.9 if count[0] % 3 == 0 else 0.0)
        message.header.stamp = Time(sec=int(stamp_s), nanosec=int(stamp_s % 1 * 1e9))
        if count[0] % 3 == 0:
            message.position = [0.9] * 8
        return message

    return change


HARMLESS: dict[str, Callable[[], Change]] = {
    "joints in another order": lambda: shuffled,
    "another order in every message": reshuffled,
    "extra joints": lambda: with_fields(
        name=lambda m: ["gripper", *m.name, "head"], position=lambda m: [5.0, *m.position, -5.0]
    ),
    "extra joints that are NaN": lambda: with_fields(
        name=lambda m: [*m.name, "wheel"], position=lambda m: [*m.position, np.nan]
    ),
    "velocities and efforts NaN": lambda: with_fields(
        velocity=lambda m: [np.nan] * 8, effort=lambda m: [np.inf] * 3
    ),
    "some messages overtaken": now_and_then_old,
    "a frame of another robot": lambda: with_fields(
        header=lambda m: Header(stamp=m.header.stamp, frame_id="other_robot/base_link")
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_unusual_but_valid_joint_states_are_accepted(rig: Rig, planar8: Robot, case: str) -> None:
    rig.begin()
    rig.inject(HARMLESS[case]())
    start = len(rig.probe.commands)
    rig.probe.wait(lambda: rig.probe.value("reached") == "true", "the goals")
    assert_within_limits(planar8, rig.probe.commands[start:])


def test_one_wrong_position_is_reported_and_motion_starts_from_rest(
    rig: Rig, planar8: Robot
) -> None:
    rig.begin()
    before = int(rig.probe.value("refused joint states"))
    glitch = [True]

    def change(message: JointState) -> JointState:
        if glitch and glitch.pop():
            message.position[2] += 1.0
        return message

    since_s = rig.inject(change)
    rig.probe.wait(
        lambda: any(command.is_zero for command in rig.probe.commands_since(since_s)),
        "zero after the jump",
    )
    rig.probe.wait(lambda: rig.probe.value("reached") == "true", "the goals all the same")
    assert int(rig.probe.value("refused joint states")) == before + 1
    assert "'left_1' jumped by" in rig.probe.value("refused joint state")


def test_messages_in_bursts_stop_the_robot_in_between(rig: Rig) -> None:
    rig.begin()
    rig.hardware.stop()
    sleep(0.2)
    rig.probe.wait_state("STALE")
    since_s = monotonic()
    rig.hardware.resume()
    rig.probe.wait_moving()
    assert rig.probe.commands_since(since_s)


BAD_GOALS: dict[str, tuple[tuple[float, float, float], str, str]] = {
    "x NaN": ((np.nan, 0.0, 0.0), "", "position is (nan, 0, 0), but must be finite"),
    "z infinite": ((0.0, 0.0, np.inf), "", "position is (0, 0, inf), but must be finite"),
    "y minus infinite": ((0.0, -np.inf, 0.0), "", "must be finite"),
    "1 km away": ((1000.0, 0.0, 0.0), "", "more than 100 m away"),
    "1e308 m away": ((1e308, 1e308, 0.0), "", "more than 100 m away"),
    "another frame": ((0.5, 0.0, 0.0), "camera", "frame is 'camera', but must be 'base_link'"),
    "a frame of a megabyte": ((0.5, 0.0, 0.0), "x" * 10**6, "frame is 'xxx"),
    "outside the workspace": (
        (0.5, 0.0, 5.0),
        "",
        "but the workspace is (-2, -2, -1) to (2, 2, 1)",
    ),
}


@pytest.mark.parametrize("case", BAD_GOALS)
def test_bad_goals_keep_the_previous_one(rig: Rig, case: str) -> None:
    position, frame, reason = BAD_GOALS[case]
    assert set_parameter(rig.probe, "workspace", [-2.0, -2.0, -1.0, 2.0, 2.0, 1.0])[0]
    rig.begin()
    kept = rig.probe.value("goal/left")
    rig.probe.send_goal("left", np.array(position), frame)
    rig.probe.wait(lambda: reason in rig.probe.value("rejected"), f"status says: {reason}")
    assert len(rig.probe.value("rejected")) < 1000
    assert rig.probe.value("goal/left") == kept
    rig.probe.wait_moving()


def test_a_goal_that_is_not_sent_again_expires(rig: Rig) -> None:
    try:
        assert set_parameter(rig.probe, "goal_timeout", 0.5) == (True, "")
        rig.begin()
        rig.probe.wait_state("IDLE")
        assert "expired after 0.5 s" in rig.probe.value("expired")
        assert [rig.probe.value(f"goal/{e}") for e in rig.probe.robot.effector_names] == [""] * 3
        rig.probe.wait(lambda: rig.probe.commands[-1].is_zero, "rest")
    finally:
        assert set_parameter(rig.probe, "goal_timeout", 0.0) == (True, "")


def test_one_goal_can_be_cleared(rig: Rig) -> None:
    rig.begin()
    assert rig.probe.call("clear_goal/left") == "goal of 'left' cleared"
    rig.probe.wait(lambda: rig.probe.value("goal/left") == "", "no goal of left")
    assert rig.probe.value("goal/right") and rig.probe.value("state") == "ACTIVE"
    for effector in ("middle", "right"):
        rig.probe.call(f"clear_goal/{effector}")
    rig.probe.wait_state("IDLE")


def test_goals_at_1_khz_are_followed_without_disturbance(rig: Rig, planar8: Robot) -> None:
    rig.begin()
    statuses, commands = len(rig.probe.statuses), len(rig.probe.commands)
    start_s, count = monotonic(), 0
    goals = planar8.forward_kinematics(planar8.home + 0.2)
    while (now_s := monotonic() - start_s) < 3.0:
        wobble = 0.01 * np.array([np.sin(9 * now_s), np.cos(9 * now_s), 0.0])
        for effector, goal in zip(planar8.effector_names, goals, strict=True):
            rig.probe.send_goal(effector, goal + wobble)
            count += 1
        sleep(max(0.0, count / 1000.0 - (monotonic() - start_s)))
    assert count > 1500
    elapsed_s = monotonic() - start_s
    assert len(rig.probe.commands) - commands > 0.7 * elapsed_s / PERIOD_S
    assert len(rig.probe.statuses) - statuses < 60 * elapsed_s  # not one per goal
    for effector, goal in zip(planar8.effector_names, goals, strict=True):
        rig.probe.send_goal(effector, goal)
    last = " ".join(map(repr, goals[0].tolist()))
    rig.probe.wait(lambda: rig.probe.value("goal/left") == last, "the last goal")
    rig.probe.wait(lambda: rig.probe.value("reached") == "true", "the last goals reached")
    assert_within_limits(planar8, rig.probe.commands[commands:])
