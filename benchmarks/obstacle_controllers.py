"""Controllers of the obstacle benchmark, each for one robot in one scene after another."""

from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.obstacle_scenes import Scene
from benchmarks.qp_controller import QPController
from benchmarks.rrt_planner import Plan
from polyreach.deploy.controllers import Controller, within_limits
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.obstacle_markers import SHAPES, Action, MarkerFields
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import ControllerParameters

TRACKING_GAIN = 15.0  # [1/s] of the deviation from a planned motion
RESERVE = 0.6  # share of the acceleration limits that a planned motion uses
TIMED = 25  # the clock of CPU time takes longer than a command where system calls are slow
GAP_S = 10.0  # [s] of the controller's time between two scenes

Array = NDArray[np.float64]


class SceneController(Protocol):
    """Drives a robot from the start of a scene; it is then called in every control period.

    command_s: CPU times [s] of every TIMED-th command. plan_s: those of all plans.
    """

    command_s: list[float]
    plan_s: list[float]

    def begin(self, scene: Scene) -> float:
        """Take a scene; returns the time [s] that the robot waits at rest."""

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (1, nu) [rad/s or m/s] within the robot's limits."""


class LimitedController:
    """A controller within the robot's velocity, acceleration and position limits."""

    def __init__(self, robot: Robot, controller: Controller) -> None:
        self._controller, self._condition = controller, within_limits(robot)
        self.command_s, self.plan_s, self._count = list[float](), list[float](), 0

    def begin(self, scene: Scene) -> float:
        """Start at rest."""
        self._controller.reset(1)
        return 0.0

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """As SceneController."""
        self._count += 1
        compute = self._timed if self._count % TIMED == 0 else self._controller.command
        return self._condition(compute(inputs), inputs)

    def _timed(self, inputs: PolicyInputs[Array]) -> Array:
        begin = process_time()
        wanted = self._controller.command(inputs)
        self.command_s.append(process_time() - begin)
        return wanted


class LimitedQP(LimitedController):
    """The quadratic program, with the obstacles of each scene."""

    def __init__(self, robot: Robot, program: QPController) -> None:
        super().__init__(robot, program)
        self._program = program
        program.timed = False

    def begin(self, scene: Scene) -> float:
        """Take the obstacles."""
        self._program.set_obstacles(scene.obstacles)
        return super().begin(scene)

    def _timed(self, inputs: PolicyInputs[Array]) -> Array:
        """Times are those of the programs, in their process."""
        self._program.timed = True
        wanted = self._program.command(inputs)
        self._program.timed = False
        self.command_s.append(self._program.times[-1])
        return wanted


class NodeController:
    """A policy file in the whole controller, which gets goals, obstacles and joint states as its
    node does, in simulated time and with its default parameters.

    faults: texts of the controller's faults, with which the robot stops.
    """

    def __init__(self, robot: Robot, policy: Path) -> None:
        self._robot = robot
        self._control = ReachControl(robot, Policy.load(policy, robot))
        self._control.configure(ControllerParameters())
        self._period_s, self._now_s = 1.0 / robot.control_rate, 0.0
        self.command_s, self.plan_s, self.faults = list[float](), list[float](), list[str]()
        self._names, self._count = list(robot.joint_names), 0

    def begin(self, scene: Scene) -> float:
        """Send goals and obstacles. Raises RuntimeError if they are refused."""
        control, self._now_s = self._control, self._now_s + GAP_S
        control.resume()
        control.activate()
        markers = [marker(Action.DELETEALL), *map(obstacle_marker, scene.obstacles)]
        reasons = [control.take_obstacles(markers, self._now_s)]
        for number, effector in enumerate(self._robot.effector_names):
            x, y, z = scene.goals.positions[0, number].tolist()
            qx, qy, qz, qw = scene.goals.orientations[0, number].tolist()
            turn = qx, qy, qz, qw
            reasons.append(control.goals.set(effector, "", (x, y, z), self._now_s, turn))
        if any(reasons):
            raise RuntimeError("; ".join(filter(None, reasons)))
        return 0.0

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """As SceneController."""
        self._count += 1
        before = self._control.watchdog.fault
        command = self._timed(inputs) if self._count % TIMED == 0 else self._tick(inputs)
        self._now_s += self._period_s
        if self._control.watchdog.fault and not before:
            self.faults.append(self._control.watchdog.fault)
        return command[None]

    def _timed(self, inputs: PolicyInputs[Array]) -> Array:
        begin = process_time()
        command = self._tick(inputs)
        self.command_s.append(process_time() - begin)
        return command

    def _tick(self, inputs: PolicyInputs[Array]) -> Array:
        self._control.receive(self._names, inputs.joint_pos[0].tolist(), self._now_s)
        return self._control.tick(self._now_s, self._period_s)


def obstacle_marker(obstacle: Obstacle) -> MarkerFields:
    """The marker of an obstacle."""
    kinds = {shape: kind for kind, shape in SHAPES.items()}
    return marker(
        Action.ADD,
        obstacle.name,
        kinds[obstacle.shape],
        obstacle.position,
        obstacle.orientation,
        obstacle.scale,
    )


def marker(
    action: Action,
    name: str = "/0",
    kind: int = next(kind for kind, shape in SHAPES.items() if shape is Shape.SPHERE),
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> MarkerFields:
    """A marker in the base frame, of namespace/number `name`."""
    namespace, _, number = name.rpartition("/")
    return MarkerFields(
        namespace=namespace,
        number=int(number),
        action=action.value,
        kind=kind,
        frame="",
        frame_locked=False,
        position=position,
        orientation=orientation,
        scale=scale,
        lifetime_s=0.0,
    )


class Motion:
    """From rest to rest along way points, straight from each to the next, as fast as the joints'
    limits allow.
    """

    def __init__(self, robot: Robot, way: Array) -> None:
        """way: (P, nu) [rad or m]."""
        self._period_s = 1.0 / robot.control_rate
        legs = np.diff(way, axis=0)
        keep = np.abs(legs).max(axis=1) > 0.0
        self._from, self._legs, self._end = way[:-1][keep], legs[keep], way[-1]
        size = np.maximum(np.abs(self._legs), 1e-12)
        # limits of the share of a leg: its speed [1/s] and acceleration [1/s^2]
        acceleration = (RESERVE * robot.joint_acc_limits / size).min(axis=1)
        speed = (robot.joint_vel_limits / size).min(axis=1)
        self._acceleration = acceleration
        self._ramp = np.minimum(speed / acceleration, acceleration**-0.5)  # [s]
        self._times = 1.0 / (acceleration * self._ramp) + self._ramp  # [s] of the legs
        self._begin = np.cumsum(self._times) - self._times

    def at(self, time_s: float) -> tuple[Array, Array]:
        """Position (nu,) [rad or m] and velocity (nu,) at time_s [s]."""
        leg = int(np.searchsorted(self._begin, time_s, side="right")) - 1
        if leg < 0 or time_s >= self._begin[leg] + self._times[leg]:
            return self._end, np.zeros_like(self._end)
        t, ramp, acceleration = time_s - self._begin[leg], self._ramp[leg], self._acceleration[leg]
        left = self._times[leg] - t
        if t < ramp:
            share, rate = acceleration * t * t / 2, acceleration * t
        elif left < ramp:
            share, rate = 1.0 - acceleration * left * left / 2, acceleration * left
        else:
            share, rate = acceleration * ramp * (t - ramp / 2), acceleration * ramp
        return self._from[leg] + share * self._legs[leg], rate * self._legs[leg]


class PlannedController:
    """Plans once, while the robot waits, and follows the planned way."""

    def __init__(self, robot: Robot, plan: Callable[[Scene], Plan]) -> None:
        self._robot, self._plan, self._condition = robot, plan, within_limits(robot)
        self.command_s, self.plan_s = list[float](), list[float]()

    def begin(self, scene: Scene) -> float:
        """Plan."""
        plan = self._plan(scene)
        self._motion, self._time_s = Motion(self._robot, plan.way), 0.0
        self.plan_s.append(plan.seconds)
        return plan.seconds

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """As SceneController."""
        period_s = 1.0 / self._robot.control_rate
        position, _ = self._motion.at(self._time_s)
        self._time_s += period_s
        following, _ = self._motion.at(self._time_s)
        wanted = (following - position) / period_s
        wanted = wanted + TRACKING_GAIN * (position - inputs.joint_pos[0])
        return self._condition(wanted[None], inputs)
