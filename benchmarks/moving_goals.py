"""How far effectors are behind goals that are streamed, with and without a prediction.

`python -m benchmarks.moving_goals [ROBOT ...] [--policy FILE] [--speed M_S] [--paths N] [--causes]`

Goals of all effectors move on smooth random paths, and are sent at several rates with jitter; the
controller and simulated drives run in simulated time, at the robot's control rate. Errors are
those from where the goals are at that time, not from where they were sent. With --causes, a second
table shows what came before the errors above AIM_M.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyreach.deploy.goal_sets import moving_configurations
from polyreach.deploy.simulation import Drives, SimulatedRobots
from polyreach_description import Robot, load_robot
from polyreach_description.orientation import orientation_errors
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import ControllerParameters

RATES = (10.0, 25.0, 50.0, 100.0)  # [Hz] of messages
SECONDS = 4.0  # of a path
START_S = 1.0  # [s] after which errors count
JITTER_S = 0.002  # [s] rms delay of receipt
NOISE_M = 0.001  # [m] rms in each direction in which the robot moves
AIM_M = 0.005  # [m]
TURN = 0.4  # [m/s^2] of a goal
BEFORE_S = 0.3  # [s] in which a cause has an effect
NEAR_LIMIT = 0.03  # share of a joint's range
CUT = 0.005  # share of a joint's velocity limit
CAUSES = (
    f"goal accelerates by more than {TURN:g} m/s^2",
    "joint stopped by its position limit",
    "command at a velocity or acceleration limit",
    "slowed by the distance of two bodies",
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Goals on one path: times of receipt (M,) [s], and what was sent then."""

    times_s: Array
    positions: Array  # (M, E, 3) [m]
    orientations: Array  # (M, E, 4)


@dataclass(frozen=True)
class Followed:
    """Errors (N,) [m], (N,) [rad] of the worst effector, rms command acceleration [rad/s^2], and
    which of CAUSES there were within BEFORE_S (N, C).
    """

    distances: Array
    angles: Array
    acceleration: float
    causes: NDArray[np.bool_]


def poses(robot: Robot, path: Array, times_s: Array) -> tuple[Array, Array]:
    """Positions (N, E, 3) [m] and orientations (N, E, 4) on a path (T, nu) at times (N,) [s]."""
    ticks = np.arange(len(path)) / robot.control_rate
    rows = np.stack([np.interp(times_s, ticks, joint) for joint in path.T], axis=1)
    positions, orientations = zip(*map(robot.effector_poses, rows), strict=True)
    return np.stack(positions), np.stack(orientations)


def stream(robot: Robot, path: Array, rate: float, noise_m: float, seed: int) -> Stream:
    """Goals on a path (T, nu), sent at `rate` [Hz]."""
    rng = np.random.default_rng(seed)
    sent_s = np.arange(rng.uniform(0.0, 1.0 / rate), SECONDS, 1.0 / rate)
    positions, orientations = poses(robot, path, sent_s)
    moves = np.ptp(positions, axis=(0, 1)) > 0.0  # a planar robot stays in its plane
    positions = positions + noise_m * moves * rng.normal(size=positions.shape)
    times_s = np.maximum.accumulate(sent_s + np.abs(rng.normal(0.0, JITTER_S, sent_s.shape)))
    return Stream(times_s, positions, orientations)


def follow(robot: Robot, policy: Policy, path: Array, goals: Stream, predict: bool) -> Followed:
    """Run the controller along a stream of goals, whose path (T, nu) begins where it stands."""
    control = ReachControl(robot, policy)
    control.configure(ControllerParameters(predict_goals=predict))
    control.activate()
    robots = SimulatedRobots(robot, path[:1], Drives(), 0)
    period_s, names, commands, reached = control.period_s, list(robot.joint_names), [], []
    limited = []
    ticks_s = np.arange(0.0, SECONDS, period_s)
    sent = 0
    for now_s in ticks_s:
        while sent < len(goals.times_s) and goals.times_s[sent] <= now_s:
            _send(control, goals, sent)
            sent += 1
        reached.append(robot.effector_poses(robots.joint_pos[0]))
        control.receive(names, robots.joint_pos[0].tolist(), now_s)
        commands.append(control.tick(now_s, period_s))
        limited.append(_limited(control, robots.joint_pos[0], commands))
        robots.step(commands[-1][None], np.zeros(1, dtype=np.int64))
    robots.close()
    if control.watchdog.fault:
        raise RuntimeError(f"robot '{robot.name}': {control.watchdog.fault}")
    late = ticks_s >= START_S
    positions, orientations = poses(robot, path, ticks_s[late])
    is_at, is_turned = (np.stack(each)[late] for each in zip(*reached, strict=True))
    angles = orientation_errors(robot.effector_goals, robot.effector_axes, is_turned, orientations)
    changes = np.diff(np.stack(commands)[late], axis=0) / period_s
    return Followed(
        np.linalg.norm(is_at - positions, axis=-1).max(axis=1),
        angles.max(axis=1),
        float(np.sqrt(np.square(changes).mean())),
        _recent(robot, poses(robot, path, ticks_s)[0], np.array(limited))[late],
    )


def _limited(control: ReachControl, joint_pos: Array, commands: Sequence[Array]) -> list[bool]:
    """Which of CAUSES but the first hold for the last command."""
    robot, command = control.robot, commands[-1]
    previous = commands[-2] if len(commands) > 1 else np.zeros_like(command)
    wanted = control.pipeline.policy.tensors["joint_vel"]
    low, high = robot.joint_pos_limits.T
    left = np.where(wanted > 0.0, high - joint_pos, joint_pos - low) < NEAR_LIMIT * (high - low)
    slowed = control.pipeline.slowed < 1.0
    stopped = left & (np.abs(wanted) - np.abs(command) > CUT * robot.joint_vel_limits)
    change = np.abs(command - previous) * robot.control_rate
    at_limit = (np.abs(command) >= 0.99 * robot.joint_vel_limits) | (
        change >= 0.99 * robot.joint_acc_limits
    )
    return [bool(stopped.any()) and not slowed, bool(at_limit.any()), slowed]


def _recent(robot: Robot, goals: Array, limited: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of CAUSES (T, C) there were within BEFORE_S, for goals (T, E, 3) [m]."""
    velocity = np.gradient(goals, axis=0) * robot.control_rate
    turn = np.linalg.norm(np.gradient(velocity, axis=0) * robot.control_rate, axis=-1).max(axis=1)
    causes = np.column_stack([turn > TURN, limited])
    periods = round(BEFORE_S * robot.control_rate)
    return np.stack([causes[max(0, t - periods) : t + 1].any(axis=0) for t in range(len(causes))])


def _send(control: ReachControl, goals: Stream, number: int) -> None:
    for index, effector in enumerate(control.robot.effector_names):
        x, y, z = goals.positions[number, index].tolist()
        qx, qy, qz, qw = goals.orientations[number, index].tolist()
        now_s = float(goals.times_s[number])
        if reason := control.goals.set(effector, "", (x, y, z), now_s, (qx, qy, qz, qw)):
            raise RuntimeError(reason)


def follow_all(
    robot: Robot,
    policy: Policy,
    paths: Array,
    rate: float,
    predict: bool,
    noise_m: float = 0.0,
) -> Followed:
    """The same on many paths (T, N, nu)."""
    runs = []
    for number in range(paths.shape[1]):
        goals = stream(robot, paths[:, number], rate, noise_m, number)
        runs.append(follow(robot, policy, paths[:, number], goals, predict))
    return Followed(
        np.concatenate([run.distances for run in runs]),
        np.concatenate([run.angles for run in runs]),
        float(np.sqrt(np.mean([run.acceleration**2 for run in runs]))),
        np.concatenate([run.causes for run in runs]),
    )


def row(robot: Robot, rate: float, noise_m: float, before: Followed, after: Followed) -> str:
    """A row of the table: medians and 95 % quantiles."""

    def errors(values: Array, unit: float) -> str:
        return f"{np.median(values) * unit:.1f} / {np.quantile(values, 0.95) * unit:.1f}"

    cells = [robot.name, f"{rate:g}", f"{1e3 * noise_m:g}"]
    for run in (before, after):
        cells += [errors(run.distances, 1e3), errors(np.degrees(run.angles), 1.0)]
        cells.append(f"{run.acceleration:.1f}")
    return f"| {' | '.join(cells)} |"


def causes(robot: Robot, rate: float, run: Followed) -> str:
    """A row of the table: what came before the errors above AIM_M, and the errors without it."""
    large, free = run.distances > AIM_M, ~run.causes.any(axis=1)
    shares = [f"{share:.0%}" for share in (large.mean(), *run.causes[large].mean(axis=0))]
    rest = 1e3 * np.quantile(run.distances[free], (0.5, 0.95))
    cells = [robot.name, f"{rate:g}", *shares, f"{free.mean():.0%}: {rest[0]:.1f} / {rest[1]:.1f}"]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving_goals")
    parser.add_argument("robots", nargs="*", default=["planar8"], metavar="ROBOT")
    parser.add_argument("--policy", type=Path, help="default: the shipped one")
    parser.add_argument("--speed", type=float, default=0.2, help="of the fastest effector [m/s]")
    parser.add_argument("--paths", type=int, default=8)
    parser.add_argument(
        "--causes", action="store_true", help="of errors, where goals are predicted"
    )
    arguments = parser.parse_args(argv)
    print(
        "| robot | goals [Hz] | noise [mm] "
        + "".join(
            f"| {kind}: error [mm] | angle [deg] | acceleration [rad/s^2] "
            for kind in ("as sent", "predicted")
        )
        + "|"
    )
    print("|---" * 9 + "|")
    explained = []
    for name in arguments.robots:
        robot = load_robot(name)
        policy = Policy.load(arguments.policy or find_policy(robot.name), robot)
        starts = np.tile(robot.home, (arguments.paths, 1))
        paths = moving_configurations(robot, starts, arguments.speed, SECONDS, 5)
        for rate, noise_m in (*((rate, 0.0) for rate in RATES), (robot.control_rate, NOISE_M)):
            runs = [follow_all(robot, policy, paths, rate, p, noise_m) for p in (False, True)]
            print(row(robot, rate, noise_m, *runs), flush=True)
            if noise_m == 0.0:
                explained.append(causes(robot, rate, runs[1]))
    if arguments.causes:
        aim = f"{1e3 * AIM_M:g} mm"
        print(
            f"\n| robot | goals [Hz] | above {aim} | of these: {' | '.join(CAUSES)} "
            "| others: share, error [mm] |"
        )
        print("|---" * (4 + len(CAUSES)) + "|\n" + "\n".join(explained))
    return 0


if __name__ == "__main__":
    sys.exit(main())
