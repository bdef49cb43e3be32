"""The reach action from a client, with its server and the controller as processes."""

import math
import signal
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rig import FakeHardware, Launcher, Process, set_parameter
from scenarios import DISCOVERY_S, Probe
from shared import SharedController, shared_by

from polyreach_description import Robot

reach_goals = pytest.importorskip(
    "polyreach_interfaces.action", reason="polyreach_interfaces is not built (make interfaces)"
)
ReachGoals = reach_goals.ReachGoals

# of action_msgs/GoalStatus; UNKNOWN until the server has published one
UNKNOWN, ACCEPTED, EXECUTING, SUCCEEDED, CANCELED, ABORTED = 0, 1, 2, 4, 5, 6
FAR = 0.6  # [rad] from home: well over a second away


@dataclass
class Sent:
    """A goal that was sent and accepted."""

    probe: Probe
    handle: Any
    result_future: Any
    feedback: list[Any] = field(default_factory=list)
    feedback_s: list[float] = field(default_factory=list)

    def ended(self, timeout_s: float = 30.0) -> tuple[int, Any]:
        """Status and result, once there are any."""
        self.probe.wait(self.result_future.done, "the result of the action", timeout_s)
        response = self.result_future.result()
        return response.status, response.result

    @property
    def status(self) -> int:
        """The status that the server published last."""
        return self.handle.status

    def cancel(self) -> None:
        """Ask to cancel; the server must agree."""
        future = self.handle.cancel_goal_async()
        self.probe.wait(future.done, "answer to cancel")
        assert len(future.result().goals_canceling) == 1


class Reach:
    """An action client of the test."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.client = ActionClient(probe.node, ReachGoals, "polyreach_controller/reach")
        self._met = False

    def send(
        self,
        effectors: list[str],
        positions: list[Any],
        frame: str | None = None,
        tolerance: float = 0.0,
        timeout: float = 0.0,
        **options: bool,
    ) -> Sent:
        """Send a goal and wait until it is accepted; options: hold, queue."""
        frame = self.probe.robot.base_frame if frame is None else frame
        poses = []
        for position in positions:
            pose = PoseStamped()
            pose.header.frame_id = frame
            point = pose.pose.position
            point.x, point.y, point.z = (float(value) for value in position)
            poses.append(pose)
        goal = ReachGoals.Goal(
            effectors=effectors, poses=poses, tolerance=tolerance, timeout=timeout, **options
        )
        feedback: list[Any] = []
        feedback_s: list[float] = []

        def on_feedback(message: Any) -> None:
            feedback.append(message.feedback)
            feedback_s.append(monotonic())

        if not self._met:
            # before both sides know each other, an answer may be lost
            assert self.client.wait_for_server(30.0)
            sleep(DISCOVERY_S)
            self._met = True
        future = self.client.send_goal_async(goal, on_feedback)
        self.probe.wait(future.done, "answer to the goal")
        handle = future.result()
        assert handle.accepted
        return Sent(self.probe, handle, handle.get_result_async(), feedback, feedback_s)


@pytest.fixture
def server(request: pytest.FixtureRequest, start: Launcher) -> Process:
    """In the domain of the shared controller, if the test uses it."""
    parameters = {"settle_time": 0.3}
    shared = shared_by(request)
    if shared is None:
        return start("reach_node", parameters)
    return shared.extra("reach_node", lambda: shared.start("reach_node", parameters))


@pytest.fixture
def reach(request: pytest.FixtureRequest, server: Process, probe: Probe) -> Reach:
    shared = shared_by(request)
    if shared is None:
        return Reach(probe)
    return shared.extra(f"client of {server.popen.pid}", lambda: Reach(probe))


@pytest.fixture
def controller(shared: SharedController, policy_file: Path) -> Process:
    # joint states may be as late as the test's process is on a busy machine; outages may end by
    # themselves
    late = {"joint_state_timeout": 0.3, "outage_timeout": 0.0}
    return shared.reset({"policy": str(policy_file), **late})


def points(robot: Robot, offset: float) -> dict[str, np.ndarray]:
    """Effector positions with every joint `offset` from home [m]."""
    return dict(
        zip(robot.effector_names, robot.forward_kinematics(robot.home + offset), strict=True)
    )


def wait_taken(probe: Probe, *effectors: str) -> None:
    probe.wait(
        lambda: all(probe.value(f"goal/{name}") for name in effectors), "goals in the status"
    )


def assert_comes_to_rest(probe: Probe) -> None:
    """Nothing has a goal, and nothing moves any more."""
    probe.wait_state("IDLE", "HALTED", "STALE")
    for effector in probe.robot.effector_names:
        assert probe.value(f"goal/{effector}") == ""
    start = len(probe.commands)
    probe.wait(
        lambda: len(probe.commands) > start + 5 and all(c.is_zero for c in probe.commands[-5:]),
        "zero commands",
    )


def test_reaches_goals_with_feedback(
    controller: Process, reach: Reach, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    goals = points(planar8, 0.4)
    names = ["right", "left"]
    sent = reach.send(names, [goals[name] for name in names])
    status, result = sent.ended()
    assert (status, result.success, result.message) == (SUCCEEDED, True, "reached")
    positions = dict(
        zip(planar8.effector_names, planar8.forward_kinematics(hardware.position), strict=True)
    )
    for name, error in zip(names, result.errors, strict=True):
        assert error <= 0.02
        assert np.linalg.norm(positions[name] - goals[name]) <= 0.021
    assert probe.value("goal/middle") == ""
    assert probe.value("goal/left") and probe.value("goal/right"), "goals are held"

    feedback = [message for message in sent.feedback if not math.isnan(message.errors[0])]
    assert feedback[0].errors[0] > 0.1 > 0.02 >= feedback[-1].errors[0]
    assert np.all(np.diff([message.errors[0] for message in feedback]) <= 0.01)
    assert list(feedback[-1].reached) == [True, True] and not any(feedback[0].reached)
    assert np.all(np.diff([message.elapsed for message in sent.feedback]) > 0)
    assert np.median(np.diff(sent.feedback_s)) == pytest.approx(0.1, abs=0.05)
    assert result.elapsed >= sent.feedback[-1].elapsed
    assert 0.3 < result.elapsed < 20.0


def test_a_newer_goal_preempts(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    far, near = points(planar8, FAR), points(planar8, 0.2)
    old = reach.send(["left", "right"], [far["left"], far["right"]])
    wait_taken(probe, "left", "right")
    new = reach.send(["right", "middle"], [near["right"], near["middle"]])
    status, result = old.ended()
    assert (status, result.success) == (ABORTED, False)
    assert result.message == "preempted by a newer goal"
    # the status is another message than the result, and may come after it
    probe.wait(lambda: probe.value("goal/left") == "", "no goal of the left hand")
    status, result = new.ended()
    assert status == SUCCEEDED, result.message
    assert probe.value("goal/left") == ""
    held = [float(word) for word in probe.value("goal/right").split()]
    assert held == pytest.approx(near["right"], abs=1e-6)


def test_many_goals_one_after_the_other_leave_only_the_last(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    goals = points(planar8, FAR)
    sent = []
    for number in range(12):
        name = planar8.effector_names[number % 3]
        sent.append(reach.send([name], [goals[name]]))
    sent[-1].cancel()
    for old in sent[:-1]:
        status, result = old.ended()
        assert (status, result.message) == (ABORTED, "preempted by a newer goal")
    status, _ = sent[-1].ended()
    assert status == CANCELED
    assert_comes_to_rest(probe)


@pytest.mark.parametrize("delay_s", [0.0, 0.5], ids=["at once", "on the way"])
def test_cancel_clears_the_goals_of_the_action(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot, delay_s: float
) -> None:
    goals = points(planar8, FAR)
    sent = reach.send(["left", "right"], [goals["left"], goals["right"]])
    sleep(delay_s)
    sent.cancel()
    status, result = sent.ended(5.0)
    assert (status, result.success) == (CANCELED, False)
    assert result.message == "canceled by the client"
    assert_comes_to_rest(probe)


def test_cancel_leaves_goals_of_others_alone(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    goals = points(planar8, FAR)
    probe.send_goal("middle", goals["middle"])
    wait_taken(probe, "middle")
    sent = reach.send(["left"], [goals["left"]])
    wait_taken(probe, "left")
    sent.cancel()
    assert sent.ended()[0] == CANCELED
    assert probe.value("goal/left") == ""
    assert probe.value("goal/middle") != ""


def test_a_timeout_clears_the_goals_and_reports_the_errors(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    sent = reach.send(
        ["left", "middle"], [(50.0, 0.0, 0.0), points(planar8, 0.0)["middle"]], timeout=2.0
    )
    status, result = sent.ended()
    assert (status, result.success) == (ABORTED, False)
    assert "not reached in 2 s: 'left' is 4" in result.message
    assert result.errors[0] > 45.0
    assert 2.0 <= result.elapsed < 6.0
    assert_comes_to_rest(probe)


def test_tolerance_of_the_goal_counts(controller: Process, reach: Reach, planar8: Robot) -> None:
    sent = reach.send(["left"], [(50.0, 0.0, 0.0)], tolerance=60.0)
    status, result = sent.ended()
    assert (status, result.success) == (SUCCEEDED, True)
    assert 45.0 < result.errors[0] < 60.0


def test_halt_ends_the_action_and_nothing_moves_after_resume(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    goals = points(planar8, FAR)
    sent = reach.send(["left"], [goals["left"]])
    probe.wait_moving()
    probe.call("halt")
    status, result = sent.ended(5.0)
    assert status == ABORTED
    assert "controller 'polyreach_controller' does not move: HALTED: halted until" in result.message
    probe.call("resume")
    assert_comes_to_rest(probe)

    probe.call("halt")
    probe.wait_state("HALTED")
    status, result = reach.send(["left"], [goals["left"]]).ended(5.0)
    assert status == ABORTED and "HALTED" in result.message
    assert probe.value("goal/left") == "", "a halted controller gets no goals"


def test_joint_states_that_stop_end_the_action(
    controller: Process, reach: Reach, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    sent = reach.send(["left"], [points(planar8, FAR)["left"]])
    probe.wait_moving()
    hardware.stop()
    status, result = sent.ended(8.0)
    assert status == ABORTED
    assert "STALE: joint state is older than" in result.message
    hardware.resume()
    assert_comes_to_rest(probe)


def test_a_controller_that_is_killed_ends_the_action(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    sent = reach.send(["left"], [points(planar8, FAR)["left"]])
    probe.wait_moving()
    controller.stop(signal.SIGKILL)
    killed_s = monotonic()
    status, result = sent.ended(10.0)
    assert status == ABORTED
    assert "controller 'polyreach_controller' is gone: no status for 1 s" in result.message
    assert monotonic() - killed_s < 6.0


def test_goals_changed_by_other_clients_end_the_action(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    goals = points(planar8, FAR)
    sent = reach.send(["left", "right"], [goals["left"], goals["right"]])
    wait_taken(probe, "left", "right")
    probe.send_goal("left", goals["left"] + 0.05)
    status, result = sent.ended()
    assert status == ABORTED
    assert "goal of 'left' was replaced by (" in result.message
    assert probe.value("goal/right") == "", "the action's own goal is cleared"
    held = [float(word) for word in probe.value("goal/left").split()]
    assert held == pytest.approx(goals["left"] + 0.05, abs=1e-6)

    sent = reach.send(["right"], [goals["right"]])
    wait_taken(probe, "right")
    probe.call("clear_goals")
    status, result = sent.ended()
    assert status == ABORTED
    assert "goal of 'right' was cleared by others" in result.message


def held(probe: Probe) -> set[str]:
    """The effectors that the status shows as held."""
    return {name for name in probe.robot.effector_names if probe.value(f"held/{name}") == "true"}


def test_others_are_held_until_the_goals_are_cleared(
    controller: Process, reach: Reach, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    start = planar8.forward_kinematics(hardware.position)
    goal = start[0] + [-0.1, 0.05, 0.0]
    sent = reach.send(["left"], [goal], hold=True)
    status, result = sent.ended()
    assert status == SUCCEEDED, result.message
    assert held(probe) == {"middle", "right"}
    end = planar8.forward_kinematics(hardware.position)
    assert np.linalg.norm(end[0] - goal) < 0.021
    assert np.linalg.norm(end[1:] - start[1:], axis=-1).max() < 0.021
    probe.wait(lambda: probe.value("reached") == "true", "all effectors within the tolerance")
    probe.call("clear_goal/left")
    assert_comes_to_rest(probe)
    assert held(probe) == set()


@pytest.mark.parametrize("how", ["cancel", "preempt", "rejected"])
def test_holds_end_with_their_action(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot, how: str
) -> None:
    goal = [(200.0, 0.0, 0.0)] if how == "rejected" else [points(planar8, FAR)["left"]]
    sent = reach.send(["left"], goal, hold=True)
    if how != "rejected":
        probe.wait(lambda: held(probe) == {"middle", "right"}, "the others are held")
        probe.wait_moving()
    if how == "cancel":
        sent.cancel()
    elif how == "preempt":
        assert reach.send(["left"], [points(planar8, 0.1)["left"]]).ended()[0] == SUCCEEDED
    status, result = sent.ended()
    assert status == (CANCELED if how == "cancel" else ABORTED), result.message
    probe.wait(lambda: held(probe) == set(), "released")
    if how == "preempt":
        assert probe.value("goal/left") and not probe.value("goal/right")
    else:
        assert_comes_to_rest(probe)


def test_goals_in_the_queue_are_reached_one_after_the_other(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    places = [points(planar8, offset) for offset in (0.3, 0.4, 0.3)]
    goals = [(["left"], 0), (["left", "right"], 1), (["right"], 2)]
    sent = [
        reach.send(names, [places[i][name] for name in names], queue=i > 0) for names, i in goals
    ]
    probe.wait(lambda: sent[0].status == EXECUTING, "the first one begins")
    probe.wait(lambda: sent[-1].status != UNKNOWN, "the server publishes the status of the last")
    assert [each.status for each in sent[1:]] == [ACCEPTED, ACCEPTED]
    for number, each in enumerate(sent):
        status, result = each.ended()
        assert (status, result.message) == (SUCCEEDED, "reached")
        if number < 2:
            assert not sent[number + 1].result_future.done()
    for earlier, later in pairwise(sent):
        assert earlier.feedback_s[-1] < later.feedback_s[0], "only the one that runs reports"
    given = [float(word) for word in probe.value("goal/left").split()]
    assert given == pytest.approx(places[1]["left"], abs=1e-6), "an older goal stays"


@pytest.mark.parametrize("how", ["cancel", "halt", "clear", "reload"])
def test_nothing_in_the_queue_begins_after_a_goal_that_was_not_reached(
    controller: Process, reach: Reach, probe: Probe, policy_file: Path, planar8: Robot, how: str
) -> None:
    goals = points(planar8, FAR)
    first = reach.send(["left"], [goals["left"]])
    waiting = [reach.send([name], [goals[name]], queue=True) for name in ("right", "left")]
    probe.wait_moving()
    if how == "cancel":
        first.cancel()
    elif how == "halt":
        probe.call("halt")
    elif how == "clear":
        probe.call("clear_goals")
    else:
        assert probe.transition("deactivate")
        assert set_parameter(probe, "policy", str(policy_file)) == (True, "")
        assert probe.transition("activate")
    status, reason = first.ended()
    assert status == (CANCELED if how == "cancel" else ABORTED)
    for each in (*waiting, reach.send(["right"], [goals["right"]], queue=True)):
        status, result = each.ended()
        expected = f"not begun, since the goal before it was not reached: {reason.message}"
        assert (status, result.message) == (ABORTED, expected)
    if how == "halt":
        probe.call("resume")
    assert_comes_to_rest(probe)
    begun = reach.send(["right"], [points(planar8, 0.1)["right"]])
    assert begun.ended()[0] == SUCCEEDED, "without the queue, it goes on"


def test_a_goal_that_waits_can_be_canceled_and_all_can_be_preempted(
    controller: Process, reach: Reach, probe: Probe, planar8: Robot
) -> None:
    goals = points(planar8, FAR)
    first = reach.send(["left"], [(50.0, 0.0, 0.0)])
    waiting = [reach.send([name], [goals[name]], queue=True) for name in ("right", "left")]
    waiting[0].cancel()
    assert waiting[0].ended()[0] == CANCELED
    status, result = waiting[1].ended()
    assert status == ABORTED and result.message.endswith("canceled by the client")
    assert first.status == EXECUTING
    behind = reach.send(["left"], [goals["left"]])
    assert first.ended()[1].message == "preempted by a newer goal"
    behind.cancel()
    assert behind.ended()[0] == CANCELED
    assert_comes_to_rest(probe)
    assert probe.value("goal/right") == ""


NAN = math.nan
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"effectors": ["lefthand"]},
        "unknown effector 'lefthand' (controller 'polyreach_controller' has: left, middle, right)",
    ),
    ({"effectors": [], "positions": []}, "effectors is empty (controller"),
    ({"effectors": []}, "effectors is empty"),
    ({"effectors": ["left", "right"]}, "2 effectors, but 1 poses"),
    ({"effectors": ["left"] * 2, "positions": [(0.1, 0, 0)] * 2}, "'left' is named twice"),
    ({"frame": "camera"}, "frame of 'left' is 'camera', but must be 'base_link' or empty"),
    ({"positions": [(NAN, 0, 0)]}, "position of 'left' is (nan, 0, 0), but must be finite"),
    ({"positions": [(0, math.inf, 0)]}, "position of 'left' is (0, inf, 0), but must be finite"),
    ({"tolerance": -0.1}, "tolerance is -0.1, but must be 0 (the default) or more [m]"),
    ({"tolerance": NAN}, "tolerance is nan"),
    ({"timeout": -1.0}, "timeout is -1, but must be 0 (the default) or more [s]"),
    ({"timeout": math.inf}, "timeout is inf"),
)


def test_invalid_goals_are_rejected_and_disturb_nothing(
    controller: Process, reach: Reach, probe: Probe
) -> None:
    running = reach.send(["middle"], [(40.0, 0.0, 0.0)], timeout=300.0)
    wait_taken(probe, "middle")
    for changes, reason in REFUSED:
        arguments: dict[str, Any] = {"effectors": ["left"], "positions": [(0.1, 0, 0)], **changes}
        status, result = reach.send(**arguments).ended()
        assert (status, result.success) == (ABORTED, False), reason
        assert reason in result.message
        assert len(result.errors) == len(arguments["effectors"])
        assert probe.value("goal/left") == "", reason
    assert not running.result_future.done()
    assert probe.value("goal/middle") != ""

    status, result = reach.send(["left"], [(200.0, 0.0, 0.0)]).ended()
    assert status == ABORTED
    assert "goal of 'left' rejected: position is (200, 0, 0), more than 100 m" in result.message
    assert running.ended()[1].message == "preempted by a newer goal"
    assert_comes_to_rest(probe)


def test_a_missing_controller_is_named(reach: Reach) -> None:
    status, result = reach.send(["left"], [(0.1, 0.0, 0.0)]).ended(10.0)
    assert status == ABORTED
    assert result.message == "no controller 'polyreach_controller' in 5 s"


def test_an_inactive_controller_is_named(
    start: Launcher, reach: Reach, probe: Probe, policy_file: Path
) -> None:
    start("controller_node", {"policy": str(policy_file)})
    assert probe.transition("configure")
    probe.wait_state("INACTIVE")
    status, result = reach.send(["left"], [(0.1, 0.0, 0.0)]).ended(10.0)
    assert status == ABORTED
    assert "controller 'polyreach_controller' does not move: INACTIVE" in result.message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_clears_the_goals_of_the_running_action(
    controller: Process,
    server: Process,
    reach: Reach,
    probe: Probe,
    planar8: Robot,
    number: signal.Signals,
) -> None:
    sent = reach.send(["left"], [points(planar8, FAR)["left"]])
    probe.wait_moving()
    assert server.stop(number) == 0, server.output
    assert_comes_to_rest(probe)
    status, result = sent.ended()
    assert (status, result.message) == (ABORTED, "the action server ends")
    assert "Traceback" not in server.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_clean_exit_without_an_action(
    server: Process, reach: Reach, number: signal.Signals
) -> None:
    assert reach.client.wait_for_server(30.0)
    assert server.stop(number) == 0, server.output
    assert "Traceback" not in server.output


def test_an_action_ends_after_its_client_is_gone(
    controller: Process, server: Process, probe: Probe, planar8: Robot, ros_domain_id: int
) -> None:
    with Probe(planar8, ros_domain_id) as other:
        client = Reach(other)
        client.send(["left"], [(50.0, 0.0, 0.0)], timeout=4.0)
        client.client.destroy()
        wait_taken(probe, "left")
    probe.wait(lambda: probe.value("goal/left") == "", "the goal is cleared in time", 15.0)
    assert_comes_to_rest(probe)
