"""Commands as messages: velocities, positions, or a trajectory that ends at rest."""

from array import array
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import CommandInterface

Vector = NDArray[np.float64]


class CommandOutput(Protocol):
    """Makes the messages of one command interface; the same object is filled again and again."""

    kind: type
    ends_by_itself: bool  # the joints stop without a further message

    def message(self, joint_vel: Vector) -> Any:
        """The message for the command (nu,) [rad/s or m/s]; None while nothing can be said."""


class VelocityOutput:
    """Velocities (nu,) [rad/s or m/s], which hold until the next message."""

    kind = Float64MultiArray
    ends_by_itself = False

    def __init__(self, control: ReachControl) -> None:
        self._message = Float64MultiArray(data=array("d", control.pipeline.zero))
        self._view = np.frombuffer(self._message.data)

    def message(self, joint_vel: Vector) -> Float64MultiArray:
        """The velocities."""
        self._view[:] = joint_vel
        return self._message


class PositionOutput:
    """Positions (nu,) [rad or m] at the end of the control period."""

    kind = Float64MultiArray
    ends_by_itself = True

    def __init__(self, control: ReachControl) -> None:
        assert control.positions is not None
        self._positions = control.positions
        self._message = Float64MultiArray(data=array("d", control.pipeline.zero))
        self._view = np.frombuffer(self._message.data)

    def message(self, joint_vel: Vector) -> Float64MultiArray | None:
        """The positions, which already contain joint_vel; None before the first joint state."""
        position = self._positions.position
        if position is None:
            return None
        self._view[:] = position
        return self._message


class TrajectoryOutput:
    """Positions and velocities at the end of the control period and, if the joints move, the point
    at which they would be at rest after that.

    joint_trajectory_controller takes no trajectory that ends in motion, by default; and if no
    further message comes, the joints brake as the acceleration limits allow. The stamp is 0, so
    that a trajectory starts at its receipt.
    """

    kind = JointTrajectory
    ends_by_itself = True

    def __init__(self, control: ReachControl) -> None:
        assert control.positions is not None
        self._positions, self._period_s = control.positions, control.period_s
        self._zero = array("d", control.pipeline.zero)
        self._next = JointTrajectoryPoint()
        self._next.time_from_start = Duration(seconds=control.period_s).to_msg()
        self._rest = JointTrajectoryPoint(velocities=self._zero)
        self._message = JointTrajectory(joint_names=list(control.robot.joint_names))

    def message(self, joint_vel: Vector) -> JointTrajectory | None:
        """The trajectory, which already contains joint_vel; None before the first joint state."""
        position = self._positions.position
        if position is None:
            return None
        self._next.positions = array("d", position)
        self._next.velocities = array("d", self._positions.velocity)
        self._message.points = [self._next]
        rest, time_s = self._positions.rest()
        if time_s > 0.0:
            self._rest.positions = array("d", rest)
            duration = Duration(seconds=self._period_s + time_s)
            self._rest.time_from_start = duration.to_msg()
            self._message.points = [self._next, self._rest]
        return self._message


OUTPUTS: dict[CommandInterface, type[VelocityOutput | PositionOutput | TrajectoryOutput]] = {
    CommandInterface.VELOCITY: VelocityOutput,
    CommandInterface.POSITION: PositionOutput,
    CommandInterface.TRAJECTORY: TrajectoryOutput,
}
