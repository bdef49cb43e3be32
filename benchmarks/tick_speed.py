"""Compute time of a control period, joint state in to command out, beside the ONNX inference in it.

The joints follow their commands at once, as a kinematic simulation has them. Counted are periods in
which a joint moves fast and nothing slows it, and those that the robot's own bodies slow.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks import timing
from polyreach_description import load_robot
from polyreach_nodes.control.control import ReachControl
from polyreach_nodes.control.policy import Policy, find_policy

MOTIONS = 40
QUICK_MOTIONS = 6
PERIODS = 75  # of one motion
FAST = 0.5  # share of the velocity limits that the fastest joint has at least
FOLLOWING_TIMEOUT_S = 2.0  # as the controller's parameter

Vector = NDArray[np.float64]


@dataclass
class Times:
    """Of single control periods [s]: all of it, and the inference in it."""

    whole: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)

    def row(self) -> str:
        """The rest over the inference, medians of the same periods."""
        whole, inference = 1e6 * np.array(self.whole), 1e6 * np.array(self.inference)
        rest = whole - inference
        ratio = np.median(rest) / np.median(inference)
        return (
            f"{ratio:.2f} x ({np.median(rest):.0f} against {np.median(inference):.0f} us), "
            f"whole period p50 {np.median(whole):.0f} us, p99 {np.quantile(whole, 0.99):.0f} us, "
            f"{len(whole)} periods"
        )


class Stopwatch:
    """A policy that notes the time [s] of its last inference."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.seconds = policy, 0.0

    def compute(self, *inputs: Vector) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As the policy has it."""
        start_s = perf_counter()
        outputs = self.policy.compute(*inputs)
        self.seconds = perf_counter() - start_s
        return outputs


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows of (what, ratio) for one robot, with its shipped policy and without any transport."""
    robot = load_robot(robot_name)
    control = ReachControl(robot, Policy.load(find_policy(robot_name), robot))
    control.policy = stopwatch = Stopwatch(control.policy)  # type: ignore[assignment]
    control.following.timeout_s = FOLLOWING_TIMEOUT_S
    free, slowed = Times(), Times()
    motions = QUICK_MOTIONS if timing.quick else MOTIONS
    drawn = robot.sample_configuration(np.random.default_rng(0), 2 * motions)
    for start, end in drawn.reshape(motions, 2, -1):
        apart = robot.forward_kinematics(end)
        swapped = np.roll(robot.forward_kinematics(start), 1, axis=0)
        for goals in (apart, swapped):
            drive(control, stopwatch, start, goals, free, slowed)
    for what, times in (("at speed, nothing near", free), ("slowed, bodies near", slowed)):
        if times.whole:
            yield f"{robot_name}, {what}: all but the inference, over it", times.row()


def drive(
    control: ReachControl,
    stopwatch: Stopwatch,
    start: Vector,
    goals: Vector,
    free: Times,
    slowed: Times,
) -> None:
    """One motion from start (nu,) [rad or m] to goals (E, 3) [m]."""
    robot, joint_pos = control.robot, start.copy()
    names = [robot.model.joint(joint).name for joint in range(robot.model.njnt)]
    addresses = [int(robot.model.joint(name).qposadr[0]) for name in names]
    control.activate()
    for name, goal in zip(robot.effector_names, goals, strict=True):
        control.set_goal(name, "", tuple(goal.tolist()), 0.0)
    for period in range(PERIODS):
        now_s = period * control.period_s
        position = array("d", robot.qpos(joint_pos)[addresses])
        start_s = perf_counter()
        control.receive(names, position, now_s)
        command = control.tick(now_s)
        whole_s = perf_counter() - start_s
        if control.watchdog.fault:
            raise RuntimeError(f"the controller stopped: {control.watchdog.fault}")
        fast = bool((np.abs(command) >= FAST * robot.joint_vel_limits).any())
        if fast or control.slowed < 1.0:
            times = slowed if control.slowed < 1.0 else free
            times.whole.append(whole_s)
            times.inference.append(stopwatch.seconds)
        joint_pos = joint_pos + command * control.period_s
