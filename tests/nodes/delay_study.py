"""Effect of delay on a policy: `python tests/nodes/delay_study.py` prints a table of the docs.

The control periods run without ROS, so the figures are the same on every machine. Joint
states are sampled at 100 Hz; the joints respond with a delay (see VelocityServos).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from velocity_servos import VelocityServos

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl

STATE_S = 0.01  # [s] period of the joint states
TOLERANCE_M = 0.02  # default of the controller's parameter
REST_S = 2.0  # [s] for which a settled robot is at rest at the end of a motion
REST_SPEED = 0.05  # share of the velocity limits below which a joint is at rest
CASES = [  # delay [s], speed_scale
    (0.02, 1.0),
    (0.05, 1.0),
    (0.1, 1.0),
    (0.1, 0.5),
    (0.2, 1.0),
    (0.2, 0.5),
    (0.2, 0.25),
]


@dataclass(frozen=True)
class Motion:
    """Effector errors (steps, E) [m] and joint velocities (steps, nu) [rad/s] per joint state."""

    error: NDArray[np.float64]
    joint_vel: NDArray[np.float64]
    vel_limits: NDArray[np.float64]

    @property
    def settled(self) -> bool:
        """Whether all effectors stay at their goals and all joints stay at rest at the end."""
        last = slice(-round(REST_S / STATE_S), None)
        share = np.abs(self.joint_vel[last]) / self.vel_limits
        return bool(self.error[last].max() < TOLERANCE_M and share.max() < REST_SPEED)

    @property
    def overshoot(self) -> float:
        """Largest error after the goals were first reached, relative to the initial error.

        0 if all effectors stay within the tolerance, 1 if they are never within it all at once.
        """
        worst = self.error.max(axis=1)
        near = np.flatnonzero(worst < TOLERANCE_M)
        if not len(near):
            return 1.0
        after = worst[near[0] :].max()
        return float(after / worst[0]) if after > TOLERANCE_M else 0.0


def reach(
    robot: Robot,
    policy: Policy,
    start: NDArray[np.float64],
    goals: NDArray[np.float64],
    delay_s: float = 0.0,
    speed_scale: float = 1.0,
    lag_s: float = 0.0,
) -> Motion:
    """Reach goals (E, 3) [m] from start (nu,) [rad or m] with joints that respond with a delay."""
    control = ReachControl(robot, policy)
    control.pipeline.speed_scale = speed_scale
    control.activate()
    for effector, goal in zip(robot.effector_names, goals, strict=True):
        assert not control.goals.set(effector, "", tuple(goal), 0.0)
    servos = VelocityServos(start, delay_s, lag_s)
    names, per_period = list(robot.joint_names), round(control.period_s / STATE_S)
    errors, velocities = [], []
    seconds = max(10.0, 6.0 / speed_scale)
    for step in range(round(seconds / STATE_S)):
        now_s = step * STATE_S
        servos.advance(now_s)
        control.receive(names, servos.position.tolist(), now_s)
        if step % per_period == 0:
            servos.command(control.tick(now_s), now_s)
            assert not control.watchdog.fault, control.watchdog.fault
        position = robot.forward_kinematics(servos.position)
        errors.append(np.linalg.norm(position - goals, axis=-1))
        velocities.append(servos.velocity)
    return Motion(np.array(errors), np.array(velocities), robot.joint_vel_limits)


def study(name: str, draws: int = 30) -> None:
    """Print settled motions and overshoot for CASES, of motions that settle without delay."""
    robot = load_robot(name)
    policy = Policy.load(find_policy(name), robot)
    starts = robot.sample_configuration(np.random.default_rng(0), draws)
    goals = [robot.forward_kinematics(joint_pos) for joint_pos in starts[::-1]]
    tasks = [
        task for task in zip(starts, goals, strict=True) if reach(robot, policy, *task).settled
    ]
    for delay_s, scale in CASES:
        motions = [reach(robot, policy, *task, delay_s, scale) for task in tasks]
        settled = sum(motion.settled for motion in motions)
        overshoot = [100 * motion.overshoot for motion in motions]
        print(
            f"| {name} | {1e3 * delay_s:.0f} ms | {scale:g} | {settled} of {len(tasks)} "
            f"| {np.median(overshoot):.0f} % | {max(overshoot):.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    print("| robot | delay | speed_scale | settled | overshoot: median | largest |")
    print("|---|---|---|---|---|---|", flush=True)
    for robot_name in sys.argv[1:] or ("planar8", "humanoid27"):
        study(robot_name)
