"""Node `polyreach_sim`: the robot in MuJoCo, with the topics of hardware."""

import math
import sys
from array import array
from time import monotonic

import mujoco
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from polyreach_description import load_robot
from polyreach_nodes.client.topics import COMMAND_TOPICS
from polyreach_nodes.control.joint_reference import JointReference, Point, PositionDrives
from polyreach_nodes.parameters import (
    MIN_STATE_RATE,
    MIN_STATES,
    CommandInterface,
    SimParameters,
)
from polyreach_nodes.ros.declare_parameters import declare_parameters
from polyreach_nodes.ros.spin import run_node
from polyreach_nodes.ros.trajectory_message import read_trajectory

MAX_LAG_S = 0.1  # [s of wall time] caught up after a pause of this process; more is skipped
WARN_PERIOD_S = 2.0


class SimNode(Node):
    """Steps robot.simulation_model() in real time (or rate_factor times as fast)."""

    def __init__(self) -> None:
        super().__init__("polyreach_sim")
        parameters = declare_parameters(self, SimParameters)
        self._timeout_s = parameters.command_timeout
        self.robot = load_robot(parameters.robot)
        self._model = self.robot.simulation_model()
        self._data = mujoco.MjData(self._model)
        self._data.qpos[:] = self.robot.qpos(self.robot.home)
        mujoco.mj_forward(self._model, self._data)
        self._stopped = self.robot.simulation_ctrl(np.zeros(len(self.robot.joint_names)))
        self._data.ctrl[:] = self._stopped
        self._commanded_s = -math.inf

        rate = self.robot.control_rate
        states = max(MIN_STATES, math.ceil(MIN_STATE_RATE / rate))
        self._publish_s = 1.0 / (parameters.publish_rate or rate * states)
        self._steps = max(1, math.ceil(self._publish_s / self._model.opt.timestep - 1e-9))
        self._model.opt.timestep = self._publish_s / self._steps
        self._sim_per_wall = parameters.rate_factor
        self._wall_start_s = monotonic()

        joints = range(self._model.njnt)
        self._qpos_adr = np.array([self._model.jnt_qposadr[joint] for joint in joints])
        self._dof_adr = np.array([self._model.jnt_dofadr[joint] for joint in joints])
        self._state = JointState(name=[self._model.joint(joint).name for joint in joints])
        self._state.position = array("d", self._data.qpos[self._qpos_adr])
        self._state.velocity = array("d", self._data.qvel[self._dof_adr])
        self._position = np.frombuffer(self._state.position)
        self._velocity = np.frombuffer(self._state.velocity)
        self._sim_stamps = bool(self.get_parameter("use_sim_time").value)

        self._state_pub = self.create_publisher(JointState, "joint_states", 10)
        self._clock_pub = self.create_publisher(ClockMessage, "/clock", 10)
        self._reference: JointReference | None = None  # for interfaces other than velocity
        interface = CommandInterface.of(parameters.command_interface)
        self._drives = PositionDrives(self.robot.joint_vel_limits, self.robot.joint_acc_limits)
        kind, act = {
            CommandInterface.VELOCITY: (Float64MultiArray, self._on_commands),
            CommandInterface.POSITION: (Float64MultiArray, self._on_positions),
            CommandInterface.TRAJECTORY: (JointTrajectory, self._on_trajectory),
        }[interface]
        if interface is not CommandInterface.VELOCITY:
            self._reference = JointReference(self.robot.home)
        self.create_subscription(kind, COMMAND_TOPICS[interface], act, 1)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._publish_s / self._sim_per_wall, self._advance, clock=wall)

    def _on_commands(self, message: Float64MultiArray) -> None:
        joint_vel = self._values(message)
        if joint_vel is None:
            return
        limits = self.robot.joint_vel_limits
        self._data.ctrl[: len(limits)] = np.clip(joint_vel, -limits, limits)
        self._commanded_s = self._data.time

    def _on_positions(self, message: Float64MultiArray) -> None:
        """Positions are reached in one control period, in a straight line."""
        if (joint_pos := self._values(message)) is not None:
            self._follow([Point(1.0 / self.robot.control_rate, joint_pos)])

    def _on_trajectory(self, message: JointTrajectory) -> None:
        try:
            self._follow(read_trajectory(message, self.robot.joint_names))
        except ValueError as error:
            self._warn(f"ignored: {error}")

    def _follow(self, points: list[Point]) -> None:
        assert self._reference is not None
        low, high = self.robot.joint_pos_limits.T
        within = [p._replace(position=np.clip(p.position, low, high)) for p in points]
        self._reference.follow(within, self._data.time)

    def _values(self, message: Float64MultiArray) -> NDArray[np.float64] | None:
        """The values of a command (nu,); None, with a warning, if there is something wrong."""
        nu = len(self.robot.joint_names)
        if len(message.data) != nu:
            self._warn(
                f"command of {len(message.data)} values ignored: "
                f"robot '{self.robot.name}' takes {nu}"
            )
            return None
        values = np.asarray(message.data)
        if not np.isfinite(values).all():
            self._warn("command that is not finite ignored")
            return None
        return values

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=WARN_PERIOD_S)

    def _advance(self) -> None:
        wanted_s = (monotonic() - self._wall_start_s) * self._sim_per_wall
        lag_s = wanted_s - self._data.time
        if lag_s > MAX_LAG_S * self._sim_per_wall:
            self._wall_start_s += (lag_s - self._publish_s) / self._sim_per_wall
            lag_s = self._publish_s
        for _ in range(max(0, round(lag_s / self._publish_s))):
            if self._reference is not None:
                self._drive(self._reference)
            elif self._data.time - self._commanded_s > self._timeout_s:
                self._data.ctrl[:] = self._stopped
            mujoco.mj_step(self._model, self._data, self._steps)
            self._publish()

    def _drive(self, reference: JointReference) -> None:
        """Set the velocities with which the joints follow the reference until the next state."""
        joint_pos = self._data.qpos[self.robot.qpos_adr]
        at = reference.sample(self._data.time)
        joint_vel = self._drives.velocity(at, joint_pos, self._publish_s)
        self._data.ctrl[: len(joint_vel)] = joint_vel

    def _publish(self) -> None:
        sim_time = Time(nanoseconds=round(self._data.time * 1e9)).to_msg()
        self._position[:] = self._data.qpos[self._qpos_adr]
        self._velocity[:] = self._data.qvel[self._dof_adr]
        self._state.header.stamp = sim_time if self._sim_stamps else self.get_clock().now().to_msg()
        self._clock_pub.publish(ClockMessage(clock=sim_time))
        self._state_pub.publish(self._state)


def main(argv: list[str] | None = None) -> int:
    """Run the simulator until SIGINT or SIGTERM; returns the exit status."""
    return run_node(SimNode, lambda node: None, argv)


if __name__ == "__main__":
    sys.exit(main())
