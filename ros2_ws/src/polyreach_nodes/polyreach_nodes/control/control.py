"""One control period: joint state and goals in, joint velocities out. Nothing here knows ROS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from polyreach_description import HeldJoint, Robot
from polyreach_nodes.control.limits import REACTION_PERIODS, JointLimits
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.tracking_monitor import TrackingMonitor
from polyreach_nodes.control.watchdog import STUCK_STATES, State, Watchdog

TIMEOUT_PERIODS = 1.5  # default age limit of the joint state, in control periods
MAX_JOINT_POS = 1e4  # [rad or m], a position beyond is a broken sensor
MAX_GOAL_DISTANCE = 100.0  # [m]
JUMP_SPEED = 3.0  # times a joint's velocity limit: no joint moves that fast, so the sensor is wrong
JUMP_PERIODS = 2.0  # control periods for which a sensor may be wrong before that is a fault
HELD_TOLERANCE = (
    0.05  # [rad or m] off home, of a joint that is not controlled but moves an effector
)
CLOCK_RESET_S = 1.0  # [s] by which stamps go back when a clock was set, not when messages overtake
MAX_SOURCES = 32
MAX_NAME = 100  # characters of a frame that are repeated in a message

Vector = NDArray[np.float64]


class FollowingError(RuntimeError):
    """A joint stands although it is told to move."""


class Received(Enum):
    """What a joint state message brought."""

    INVALID = 0  # malformed or not finite: nothing moves until a valid one comes
    NOTHING = 1  # no controlled joint, or the oldest position is as old as before
    FRESH = 2  # the oldest position is younger now


@dataclass
class _Source:
    """A publisher of joint states, told by the names that it sends."""

    names: list[str]  # of the controlled joints in its messages
    places: list[int]  # where they are there
    joints: list[int]  # where they are in the robot's order
    held: list[tuple[HeldJoint, int]]  # joints that are not controlled, and where they are there
    everyone: list[str]  # names of all of these
    stamp_s: float = 0.0  # of its last message


class ReachControl:
    """Holds joint state, goals, halt and fault of one robot; nu joints, E effectors.

    Times are seconds on a monotonic clock, taken at receipt. Every method is meant for one thread.
    """

    def __init__(self, robot: Robot, policy: Policy, timeout_s: float | None = None) -> None:
        self.robot = robot
        self.policy = policy
        self.period_s = 1.0 / robot.control_rate
        self.limits = JointLimits(
            robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits, self.period_s
        )
        nu, effectors = len(robot.joint_names), len(robot.effector_names)
        self.watchdog = Watchdog(nu, timeout_s or TIMEOUT_PERIODS * self.period_s)
        self.proximity = Proximity(robot)
        self.following = TrackingMonitor(robot.joint_vel_limits, REACTION_PERIODS * self.period_s)
        self.progress = ProgressChecker(
            robot.joint_names, robot.joint_vel_limits, self.limits.low, self.limits.high
        )
        self.speed_scale = 1.0
        self.goal_timeout_s = 0.0  # 0: goals stay for ever
        self.keep_goals = False  # whether goals outlast a long outage of the joint state
        self.joint_pos: Vector = robot.home.copy()
        plausible = JUMP_SPEED * self.period_s * robot.joint_vel_limits
        self._plausible: list[float] = plausible.tolist()  # [rad or m] in a period
        self._plausible_s = [-np.inf] * nu  # when a joint's position was no jump
        self._doubted_s = [np.inf] * nu  # since when a joint's positions are refused as jumps
        self._calm_s = -np.inf  # from when on joint states are believed again
        self._in_outage = self._had_goal = False
        self.goals: Vector = np.zeros((effectors, 3))
        self.active: Vector = np.zeros(effectors)
        self.has_goal = False
        self.rejected_goal = ""  # why the last rejected goal was rejected
        self.rejected_effector = ""  # whose goal that was
        self.expired_goal = ""
        self.slowed = 1.0  # factor by which the last command was slowed
        self.goals_heard = dict.fromkeys(robot.effector_names, 0)
        self.zero: Vector = np.zeros(nu)
        self.command: Vector = self.zero
        self._goal_s: Vector = np.zeros(effectors)
        self._last_tick_s = -np.inf
        self._effector_index = {name: i for i, name in enumerate(robot.effector_names)}
        self._joint_index = {name: i for i, name in enumerate(robot.joint_names)}
        self._held = {joint.name: joint for joint in robot.held_joints}
        self._sources: dict[tuple[str, ...], _Source] = {}
        self.refused_states = self.late_states = 0
        self.refused_state = ""  # why the last one was refused

    def set_reaction(self, reaction_s: float) -> None:
        """Time [s] after which joints follow a command; 0: REACTION_PERIODS control periods.

        Raises ValueError for less than half a control period, which sampling alone takes.
        """
        reaction_s = self._time("reaction_time", reaction_s, REACTION_PERIODS)
        self.limits.reaction_s = self.proximity.reaction_s = self.following.reaction_s = reaction_s

    def set_timeout(self, timeout_s: float) -> None:
        """Age limit [s] of the joint state; 0: TIMEOUT_PERIODS control periods.

        Raises ValueError for less than half a control period, at which nothing would ever move.
        """
        self.watchdog.timeout_s = self._time("joint_state_timeout", timeout_s, TIMEOUT_PERIODS)

    def check_times(self, reaction_s: float, timeout_s: float) -> None:
        """Raise ValueError for what set_reaction or set_timeout would not take."""
        self._time("reaction_time", reaction_s, REACTION_PERIODS)
        self._time("joint_state_timeout", timeout_s, TIMEOUT_PERIODS)

    def _time(self, name: str, value_s: float, periods: float) -> float:
        value_s = value_s or periods * self.period_s
        if not value_s >= (least := 0.5 * self.period_s):
            raise ValueError(f"{name} is {value_s:g}, but must be 0 or at least {least:g} [s]")
        return value_s

    def activate(self) -> None:
        """Start at rest: no joint state, no goals. A halt stays."""
        self._had_goal = False
        self._forget_joint_states()
        self.clear_goals()
        self.rejected_goal = self.rejected_effector = self.expired_goal = ""
        self.stop()

    def resume(self) -> None:
        """End halt and fault. What a doubted sensor says is believed from now on."""
        self.watchdog.halted, self.watchdog.fault = False, ""
        self.progress.restart()
        if self._in_outage or self._calm_s > -np.inf or min(self._doubted_s) < np.inf:
            self._forget_joint_states()

    def _forget_joint_states(self) -> None:
        self.watchdog.forget()
        self._plausible_s = [-np.inf] * len(self._plausible_s)
        self._doubted_s = [np.inf] * len(self._doubted_s)
        self._calm_s = -np.inf
        self._in_outage = False

    def _notice_outage(self, now_s: float) -> None:
        """Make a long outage of the joint state a fault, and drop the goals from before.

        Before the first goal there is no motion that could go on by itself.
        """
        if not self._had_goal or self._in_outage or not (outage := self.watchdog.outage(now_s)):
            return
        self._in_outage = True
        if not self.keep_goals:
            self.clear_goals()
        goals = "kept" if self.keep_goals else "dropped"
        self.watchdog.fault = f"{outage}: goals are {goals}, motion waits for ~/resume"
        self.stop()

    def receive(
        self, names: list[str], position: Sequence[float], now_s: float, stamp_s: float = 0.0
    ) -> Received:
        """Take a joint state [rad or m], matched by name; joints of others are ignored.

        A position to which a joint cannot have moved is refused, and the one before is kept. The
        next ones are believed once they have been near that for JUMP_PERIODS; if they stay away for
        as long, it is a fault.

        stamp_s: the publisher's time, 0 if there is none. A message older than the one before is
        left out, but for a clock that was set back by more than CLOCK_RESET_S.
        """
        self._notice_outage(now_s)
        source = self._sources.get(tuple(names)) or self._match(names)
        if source is None:
            return self._refuse("joint state names a joint twice")
        if not source.everyone:
            return Received.NOTHING
        if stamp_s and 0.0 < source.stamp_s - stamp_s < CLOCK_RESET_S:
            self.late_states += 1
            return Received.NOTHING
        source.stamp_s = stamp_s
        if len(position) != len(names):
            return self._refuse(
                f"joint state has {len(names)} names, but {len(position)} positions", source
            )
        found = [float(position[place]) for place in source.places]
        for name, value in zip(source.names, found, strict=True):
            if not abs(value) < MAX_JOINT_POS:
                return self._refuse(f"joint state of '{name}' is {value:g}", source)
        for held, place in source.held:
            value = float(position[place])
            if held.carries and not abs(value - held.value) <= HELD_TOLERANCE:
                return self._refuse(
                    f"'{held.name}' is not controlled and must stay at {held.value:g}, but is at "
                    f"{value:g}",
                    source,
                )
            if abs(value) < MAX_JOINT_POS:
                self.proximity.hold(held.qpos_adr, value)
        if jump := self._jump(source, found, now_s):
            return self._refuse(jump, source)
        for joint, value in zip(source.joints, found, strict=True):
            self.joint_pos[joint] = value
            self._plausible_s[joint], self._doubted_s[joint] = now_s, np.inf
        if now_s < self._calm_s:
            return Received.INVALID
        self._calm_s = -np.inf
        fresh = self.watchdog.received(source.joints, source.everyone, now_s)
        return Received.FRESH if fresh else Received.NOTHING

    def _jump(self, source: "_Source", found: list[float], now_s: float) -> str:
        """Which joint moved faster than it can, since it was believed last; or ''."""
        for name, joint, value in zip(source.names, source.joints, found, strict=True):
            moved, plausible = abs(value - self.joint_pos.item(joint)), self._plausible[joint]
            if moved <= plausible:
                continue
            # time does not make a jump plausible
            since_s = min(now_s, self._doubted_s[joint])
            periods = (since_s - self._plausible_s[joint]) / self.period_s
            if moved > plausible * max(periods, 1.0):
                self._doubted_s[joint] = since_s
                self._calm_s = now_s + JUMP_PERIODS * self.period_s
                jump = f"joint state of '{name}' jumped by {moved:.3g}"
                if now_s - since_s >= JUMP_PERIODS * self.period_s:
                    self.watchdog.fault = (
                        f"{jump} and stays there: look at the sensor before ~/resume, which "
                        "believes it"
                    )
                return jump
        return ""

    def _refuse(self, reason: str, source: "_Source | None" = None) -> Received:
        self.watchdog.reject(reason, source.everyone if source else ())
        self.refused_states += 1
        self.refused_state = reason
        return Received.INVALID

    def _match(self, names: list[str]) -> "_Source | None":
        pairs = [
            (i, self._joint_index[name])
            for i, name in enumerate(names)
            if name in self._joint_index
        ]
        if len({joint for _, joint in pairs}) != len(pairs):
            return None
        if len(self._sources) >= MAX_SOURCES:
            self._sources.clear()
        source = self._sources[tuple(names)] = _Source(
            names=[names[place] for place, _ in pairs],
            places=[place for place, _ in pairs],
            joints=[joint for _, joint in pairs],
            held=[(self._held[name], i) for i, name in enumerate(names) if name in self._held],
            everyone=[name for name in names if name in self._joint_index or name in self._held],
        )
        return source

    def set_goal(
        self, effector: str, frame: str, position: tuple[float, float, float], now_s: float
    ) -> str:
        """Set a goal [m, base frame]; returns why it was rejected (the old goal stays), or ''."""
        reason = self._goal_fault(effector, frame, position)
        if reason:
            return self.reject_goal(effector, reason)
        self.goals_heard[effector] += 1
        index = self._effector_index[effector]
        self.goals[index] = position
        self.active[index] = 1.0
        self.has_goal = self._had_goal = True
        self.progress.set_goal(index, position)
        self._goal_s[index] = now_s
        self.expired_goal = ""
        if self.rejected_effector == effector:
            self.rejected_goal = self.rejected_effector = ""
        return ""

    def reject_goal(self, effector: str, reason: str) -> str:
        """Note that a goal was not taken; returns the sentence for the status."""
        if effector in self.goals_heard:
            self.goals_heard[effector] += 1
        self.rejected_effector = effector
        self.rejected_goal = f"goal of '{effector}' rejected: {reason}"
        return self.rejected_goal

    def _goal_fault(self, effector: str, frame: str, position: tuple[float, float, float]) -> str:
        if effector not in self._effector_index:
            legal = ", ".join(self._effector_index)
            return f"unknown effector '{effector}' (robot '{self.robot.name}' has: {legal})"
        if frame not in ("", self.robot.base_frame):
            return f"frame is '{frame[:MAX_NAME]}', but must be '{self.robot.base_frame}' or empty"
        if not np.isfinite(position).all():
            return f"position is {_point(position)}, but must be finite"
        if not np.linalg.norm(position) <= MAX_GOAL_DISTANCE:
            return f"position is {_point(position)}, more than {MAX_GOAL_DISTANCE:g} m away"
        low, high = self.proximity.workspace
        if not ((low <= position) & (position <= high)).all():
            legal = f"{_point(low)} to {_point(high)}"
            return f"position is {_point(position)}, but the workspace is {legal} [m]"
        return ""

    def clear_goals(self) -> None:
        """Forget all goals: the joints slow down within their limits and hold."""
        for effector in self._effector_index:
            self.clear_goal(effector)

    def clear_goal(self, effector: str) -> None:
        """Forget the goal of one effector."""
        index = self._effector_index[effector]
        self.active[index] = 0.0
        self.has_goal = bool(self.active.any())
        self.progress.clear_goal(index)

    def _expire_goals(self, now_s: float) -> None:
        old = (self.active > 0) & (now_s - self._goal_s > self.goal_timeout_s)
        for index in np.flatnonzero(old):
            name = self.robot.effector_names[index]
            self.expired_goal = f"goal of '{name}' expired after {self.goal_timeout_s:g} s"
            self.clear_goal(name)

    def stop(self) -> Vector:
        """Zero velocities (nu,), at once; the next command starts from rest."""
        self.command = self.zero
        self.slowed = 1.0
        self.following.restart()
        return self.zero

    def state(self, now_s: float) -> State:
        """What the controller is doing at now_s."""
        state = self.watchdog.state(now_s, self.has_goal)
        return self.progress.state if state is State.ACTIVE else state

    def tick(self, now_s: float, elapsed_s: float | None = None) -> Vector:
        """Command (nu,) [rad/s or m/s] of this control period, in the safety order.

        elapsed_s: [s] of the robot's time since the last period, which in a simulation goes at
        another rate; by default that of now_s.

        Fresh and finite joint state -> goals (checked at receipt) -> policy -> velocity,
        acceleration and position limits -> distances. Zero at once in every other state and on
        every exception, which becomes a fault.
        """
        try:
            return self._tick(now_s, elapsed_s)
        except Exception as error:
            return self.fail(error)

    def _tick(self, now_s: float, elapsed_s: float | None) -> Vector:
        if elapsed_s is None:
            elapsed_s = now_s - self._last_tick_s
        self._last_tick_s = now_s
        self._notice_outage(now_s)
        if self.goal_timeout_s and self.has_goal:
            self._expire_goals(now_s)
        state = self.watchdog.state(now_s, self.has_goal)
        if state is not State.ACTIVE and state is not State.IDLE:
            return self.stop()
        wanted = self.zero
        if state is State.ACTIVE:
            joint_vel, effector_pos = self.policy.compute(self.joint_pos, self.goals, self.active)
            wanted = joint_vel.astype(np.float64)
            if wanted.shape != self.zero.shape or not all(map(math.isfinite, wanted.tolist())):
                raise ValueError(f"policy output is {wanted.tolist()}")
        elif self.command is self.zero:
            return self.stop()
        previous, position = self.command, self.joint_pos
        standing = self.following.standing(
            previous, position, min(elapsed_s, self.period_s), self.speed_scale
        )
        if standing >= 0:
            raise FollowingError(
                f"joint '{self.robot.joint_names[standing]}' stands although it is told to move: "
                "are the drives on, and is the velocity controller active?"
            )
        command = self.limits.apply(wanted, previous, position, self.speed_scale, elapsed_s)
        self.command, self.slowed = self.proximity.scale_command(
            command, previous, position, self.limits.change(elapsed_s)
        )
        if state is State.ACTIVE and self.progress.due(elapsed_s, self.speed_scale):
            self._check_progress(effector_pos.tolist(), wanted)
        return self.command

    def _check_progress(self, effector_pos: list[list[float]], wanted: Vector) -> None:
        rows = zip(effector_pos, self.goals.tolist(), self.active.tolist(), strict=True)
        errors = [math.dist(position, goal) for position, goal, active in rows if active]
        self.progress.look(
            errors,
            self.joint_pos,
            wanted,
            self.command,
            self.speed_scale,
            self.slowed,
            self.proximity.reason,
        )

    def fail(self, error: Exception) -> Vector:
        """Stop for an error until ~/resume; returns zero velocities (nu,)."""
        self.watchdog.fault = f"{type(error).__name__}: {error}"
        return self.stop()

    def effector_pos(self) -> Vector:
        """Effector positions (E, 3) [m, base frame] at the last joint state."""
        return self.robot.forward_kinematics(self.joint_pos)

    @property
    def slowed_reason(self) -> str:
        """Why the last command was slowed, in words; '' if it was not."""
        if self.slowed >= 1.0:
            return ""
        return f"slowed to {100 * self.slowed:.0f} %: {self.proximity.reason}"

    def reason(self, now_s: float) -> str:
        """Why the controller does not move, in words; '' if nothing is wrong."""
        dog = self.watchdog
        match state := self.state(now_s):
            case State.FAULT:
                return dog.fault
            case State.HALTED:
                return "halted until ~/resume"
            case State.WAITING:
                return "no joint state yet"
            case State.STALE:
                return dog.invalid or f"joint state is older than {dog.timeout_s:.3f} s"
        return self.progress.reason if state in STUCK_STATES else ""


def _point(position: Sequence[float] | Vector) -> str:
    return f"({', '.join(f'{value:g}' for value in position)})"
