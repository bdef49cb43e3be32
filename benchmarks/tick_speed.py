"""Compute time of a control period, from joint state to command, relative to its ONNX inference.

The joints track their commands exactly (kinematic simulation). Two kinds of period are counted: a
joint moves fast and is not slowed; and the motion is slowed by the distance between two bodies.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks import timing
from polyreach_description import load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl

MOTIONS = 40
QUICK_MOTIONS = 6
PERIODS = 75  # per motion
FAST = 0.5  # lowest share of its velocity limit at which a joint moves fast
FOLLOWING_TIMEOUT_S = 2.0  # default of the controller's parameter

Vector = NDArray[np.float64]


@dataclass
class Times:
    """Compute times of control periods [s]: in total, and of the inference alone."""

    total: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)

    def row(self) -> str:
        """Median of all but the inference, relative to the median of the inference."""
        total, inference = 1e6 * np.array(self.total), 1e6 * np.array(self.inference)
        rest = total - inference
        ratio = np.median(rest) / np.median(inference)
        return (
            f"{ratio:.2f} x ({np.median(rest):.0f} vs {np.median(inference):.0f} us), "
            f"total p50 {np.median(total):.0f} us, p99 {np.quantile(total, 0.99):.0f} us, "
            f"{len(total)} periods"
        )


class TimedPolicy:
    """A policy that measures the time of its last inference [s]."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.seconds = policy, 0.0
        self.takes_obstacles = policy.takes_obstacles

    def compute(self, inputs: PolicyInputs[Vector]) -> PolicyOutputs[NDArray[np.float32]]:
        """Forward to the policy."""
        start_s = perf_counter()
        outputs = self.policy.compute(inputs)
        self.seconds = perf_counter() - start_s
        return outputs


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows (comparison, ratio) for one robot with its shipped policy, without ROS."""
    robot = load_robot(robot_name)
    control = ReachControl(robot, Policy.load(find_policy(robot_name), robot))
    control.pipeline.policy = policy = TimedPolicy(control.pipeline.policy)  # type: ignore[assignment]
    control.pipeline.tracking.timeout_s = FOLLOWING_TIMEOUT_S
    free, slowed = Times(), Times()
    motions = QUICK_MOTIONS if timing.quick else MOTIONS
    configurations = robot.sample_configuration(np.random.default_rng(0), 2 * motions)
    for start, end in configurations.reshape(motions, 2, -1):
        reachable = robot.forward_kinematics(end)
        swapped = np.roll(robot.forward_kinematics(start), 1, axis=0)
        for goals in (reachable, swapped):
            drive(control, policy, start, goals, free, slowed)
    for name, times in (("fast, not slowed", free), ("slowed near a body", slowed)):
        if times.total:
            yield f"{robot_name}, {name}: all but the inference vs the inference", times.row()


def drive(
    control: ReachControl,
    policy: TimedPolicy,
    start: Vector,
    goals: Vector,
    free: Times,
    slowed: Times,
) -> None:
    """Time one motion from start (nu,) [rad or m] to goals (E, 3) [m]."""
    robot, joint_pos = control.robot, start.copy()
    names = [robot.model.joint(joint).name for joint in range(robot.model.njnt)]
    addresses = [int(robot.model.joint(name).qposadr[0]) for name in names]
    control.activate()
    for name, goal in zip(robot.effector_names, goals, strict=True):
        control.goals.set(name, "", tuple(goal.tolist()), 0.0)
    for period in range(PERIODS):
        now_s = period * control.period_s
        position = array("d", robot.qpos(joint_pos)[addresses])
        start_s = perf_counter()
        control.receive(names, position, now_s)
        command = control.tick(now_s)
        total_s = perf_counter() - start_s
        if control.watchdog.fault:
            raise RuntimeError(f"the controller stopped: {control.watchdog.fault}")
        fast = bool((np.abs(command) >= FAST * robot.joint_vel_limits).any())
        if fast or control.pipeline.slowed < 1.0:
            times = slowed if control.pipeline.slowed < 1.0 else free
            times.total.append(total_s)
            times.inference.append(policy.seconds)
        joint_pos = joint_pos + command * control.period_s
