"""The controller without ROS: joint states and goals in, one command per control period out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_nodes.control.command_pipeline import CommandPipeline
from polyreach_nodes.control.goals import Goals
from polyreach_nodes.control.joint_jog import JointJog
from polyreach_nodes.control.joint_states import JointStateFilter, Received
from polyreach_nodes.control.obstacle_markers import MarkerFields
from polyreach_nodes.control.obstacles import Obstacles
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.position_command import PositionCommand
from polyreach_nodes.control.watchdog import STUCK_STATES, State, Watchdog
from polyreach_nodes.parameters import TIMEOUT_PERIODS, CommandInterface, ControllerParameters

Vector = NDArray[np.float64]


class ReachControl:
    """Decides every control period whether the robot may move, and computes the command; nu joints.

    Times are seconds on a monotonic clock, taken at receipt. Every method is meant for one thread.
    """

    def __init__(
        self, robot: Robot, policy: Policy, interface: CommandInterface = CommandInterface.VELOCITY
    ) -> None:
        self.robot = robot
        self.interface = interface
        self.period_s = 1.0 / robot.control_rate
        self.watchdog = Watchdog(len(robot.joint_names), TIMEOUT_PERIODS * self.period_s)
        self.pipeline = CommandPipeline(robot, policy)
        self.positions: PositionCommand | None = None  # for interfaces other than velocity
        if interface is not CommandInterface.VELOCITY:
            self.positions = PositionCommand(
                self.pipeline.limits, robot.joint_vel_limits, self.period_s
            )
        proximity, progress = self.pipeline.proximity, self.pipeline.progress
        self.joint_states = JointStateFilter(robot, self.watchdog, proximity.hold)
        self.goals = Goals(robot, proximity, progress, self._known_joint_pos)
        self.obstacles = Obstacles(robot, proximity, self.goals.frames.links)
        self.jog = JointJog(robot)
        self.keep_goals = False  # in a long outage of the joint state
        self._last_tick_s = -np.inf

    def resolved(self, parameters: ControllerParameters) -> ControllerParameters:
        """The parameters with values of 0 replaced by those of the robot.

        Raises ValueError for times that are short, and for distances that contradict each other.
        """
        robot = self.robot
        return parameters.in_seconds(self.period_s).with_distances(
            robot.slow_distance, robot.stop_distance
        )

    def configure(self, parameters: ControllerParameters) -> None:
        """Take the parameters, at rest or in motion. Raises ValueError; see `resolved`."""
        parameters = self.resolved(parameters)
        pipeline, proximity = self.pipeline, self.pipeline.proximity
        distances = parameters.collision_slow_distance, parameters.collision_stop_distance
        if distances != (proximity.slow_distance, proximity.stop_distance):
            proximity.set_distances(*distances)
        proximity.set_workspace(parameters.workspace)
        pipeline.set_reaction(parameters.reaction_time)
        pipeline.speed_scale = parameters.speed_scale
        pipeline.tracking.timeout_s = parameters.following_timeout
        pipeline.progress.tolerance = parameters.tolerance
        pipeline.progress.angle_tolerance = parameters.angle_tolerance
        pipeline.progress.set_timeout(parameters.progress_timeout)
        self.watchdog.timeout_s = parameters.joint_state_timeout
        self.watchdog.outage_timeout_s = parameters.outage_timeout
        self.goals.timeout_s = parameters.goal_timeout
        self.goals.motion.enable(parameters.predict_goals)
        twists = self.goals.twists
        twists.timeout_s = self.jog.timeout_s = parameters.twist_timeout
        twists.linear_limit = parameters.twist_linear_limit
        twists.angular_limit = parameters.twist_angular_limit
        self.keep_goals = parameters.outage_keeps_goals

    def activate(self) -> None:
        """Start at rest: no joint state, no goals. A halt stays, and obstacles do."""
        self.joint_states.forget()
        self.goals.forget()
        self.jog.forget()
        self.pipeline.stop()
        if self.positions is not None:
            self.positions.restart()

    def resume(self) -> None:
        """End halt and fault. A sensor that was doubted is believed from now on."""
        self.watchdog.halted, self.watchdog.fault = False, ""
        self.pipeline.progress.restart()
        if self.joint_states.is_doubted:
            self.joint_states.forget()

    def receive(
        self, names: list[str], position: Sequence[float], now_s: float, stamp_s: float = 0.0
    ) -> Received:
        """Take a joint state [rad or m]; see JointStateFilter.receive."""
        self._check_outage(now_s)
        return self.joint_states.receive(names, position, now_s, stamp_s)

    def take_obstacles(self, markers: Sequence[MarkerFields], now_s: float) -> str:
        """Take the markers of a message; see Obstacles.take."""
        valid = self.watchdog.has_valid_state(now_s)
        return self.obstacles.take(markers, now_s, self.joint_states.joint_pos if valid else None)

    def hold(self, now_s: float) -> list[str]:
        """Hold the effectors that have no goal where they are; returns their names.

        Raises ValueError without a valid joint state, and for an effector outside of the workspace.
        """
        if not self.watchdog.has_valid_state(now_s):
            state = self.state(now_s)
            raise ValueError(f"no valid joint state ({state}: {self.reason(now_s)})")
        return self.goals.hold(self.joint_states.joint_pos, now_s)

    def jog_joints(self, names: Sequence[str], joint_vel: Sequence[float], now_s: float) -> str:
        """Take a joint jog; see JointJog.set. Once the robot has moved, an outage counts."""
        reason = self.jog.set(names, joint_vel, self.goals.any_active, now_s)
        self.goals.had_any |= not reason
        return reason

    def tick(self, now_s: float, elapsed_s: float | None = None) -> Vector:
        """Command (nu,) [rad/s or m/s] of this control period, in the safety order.

        elapsed_s: [s] of the robot's time since the last period, which in a simulation goes at
        another rate; by default that of now_s.

        Fresh and finite joint state -> goals (checked at receipt) -> policy -> velocity,
        acceleration and position limits -> distances. In every other state and on every exception,
        which becomes a fault: zero at once or, where positions are commanded, braking within the
        acceleration limits. `positions` follow the command.
        """
        if elapsed_s is None:
            elapsed_s = now_s - self._last_tick_s
        self._last_tick_s = now_s
        try:
            command = self._tick(now_s, elapsed_s)
        except Exception as error:
            command = self.fail(error, elapsed_s)
        return self._integrated(command, now_s, elapsed_s)

    def brake(self, now_s: float) -> Vector:
        """The command (nu,) of a control period that only slows the joints down."""
        return self._integrated(self.stop(self.period_s), now_s, self.period_s)

    def _integrated(self, command: Vector, now_s: float, elapsed_s: float) -> Vector:
        if self.positions is not None:
            believed = self.watchdog.has_valid_state(now_s)
            joint_pos = self.joint_states.joint_pos if believed else None
            self.positions.step(command, joint_pos, elapsed_s)
        return command

    def _tick(self, now_s: float, elapsed_s: float) -> Vector:
        self._check_outage(now_s)
        self.goals.expire(now_s)
        self.obstacles.expire(now_s)
        state = self.watchdog.state(now_s, self.goals.any_active)
        if state is not State.ACTIVE and state is not State.IDLE:
            return self.stop(elapsed_s)
        joint_pos = self.joint_states.joint_pos
        if self.goals.followed:
            self.goals.follow(joint_pos)
        self.goals.advance(joint_pos, now_s, elapsed_s)
        jog = self.jog.joint_vel(self.goals.any_active, now_s)
        obstacles = None
        if self.goals.any_active and self.pipeline.policy.takes_obstacles:
            obstacles = self.obstacles.nearest(joint_pos, now_s)
        return self.pipeline.step(joint_pos, self.goals, elapsed_s, jog, obstacles)

    def _known_joint_pos(self) -> Vector | None:
        """The last joint positions (nu,) [rad or m]; None before the first."""
        return self.joint_states.joint_pos if self.watchdog.age_s(0.0) < np.inf else None

    def _check_outage(self, now_s: float) -> None:
        """Make a long outage of the joint state a fault, and drop the goals from before.

        Before the first goal there is no motion that could go on by itself.
        """
        if not self.goals.had_any or not (outage := self.joint_states.new_outage(now_s)):
            return
        if not self.keep_goals:
            self.goals.clear_all()
        goals = "kept" if self.keep_goals else "dropped"
        self.watchdog.fault = f"{outage}: goals are {goals}, motion waits for ~/resume"
        self.stop()

    def stop(self, elapsed_s: float = 0.0) -> Vector:
        """Zero velocities (nu,), at once; the next command starts from rest.

        Where positions are commanded: velocities that brake, elapsed_s [s] after the last command;
        between two periods (0 s) they stay, because a position ends the motion by itself.
        """
        return self.pipeline.stop() if self.positions is None else self.pipeline.brake(elapsed_s)

    def fail(self, error: Exception, elapsed_s: float = 0.0) -> Vector:
        """Stop for an error until ~/resume; see stop."""
        self.watchdog.fault = f"{type(error).__name__}: {error}"
        return self.stop(elapsed_s)

    def state(self, now_s: float) -> State:
        """What the controller is doing at now_s."""
        state = self.watchdog.state(now_s, self.goals.any_active)
        return self.pipeline.progress.state if state is State.ACTIVE else state

    def reason(self, now_s: float) -> str:
        """Why the controller does not move, in words; '' if nothing is wrong."""
        watchdog = self.watchdog
        match state := self.state(now_s):
            case State.FAULT:
                return watchdog.fault or watchdog.refused
            case State.HALTED:
                return "halted until ~/resume"
            case State.WAITING:
                return watchdog.awaited or "no joint state yet"
            case State.STALE:
                return watchdog.invalid or f"joint state is older than {watchdog.timeout_s:.3f} s"
        return self.pipeline.progress.reason if state in STUCK_STATES else ""
