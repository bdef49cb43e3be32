"""Joints that hold the last command indefinitely, and the diagnostics of the command watchdog."""

from time import monotonic

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from scenarios import Command, Probe
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from velocity_servos import VelocityServos

NAME = "/polyreach_command_watchdog"


class HoldingHardware:
    """Accepts commands on `topic` like forward_command_controller; spins with the probe."""

    RATE = 100.0  # [Hz] of joint states

    def __init__(self, probe: Probe, topic: str) -> None:
        self.commands: list[Command] = []
        self.messages = 0  # including those that ros2_control would refuse
        self._size = len(probe.robot.joint_names)
        self._servos = VelocityServos(probe.robot.home)
        self._state = JointState(name=list(probe.robot.joint_names))
        self._publisher = probe.node.create_publisher(JointState, "joint_states", 10)
        probe.node.create_subscription(Float64MultiArray, topic, self._on_command, 10)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        probe.node.create_timer(1.0 / self.RATE, self._send, clock=wall)

    def _on_command(self, message: Float64MultiArray) -> None:
        self.messages += 1
        if len(message.data) == self._size:
            now_s = monotonic()
            self.commands.append(Command(now_s, np.array(message.data)))
            self._servos.advance(now_s)
            self._servos.command(message.data, now_s)

    def _send(self) -> None:
        self._servos.advance(monotonic())
        self._state.position = self.position.tolist()
        self._publisher.publish(self._state)

    @property
    def position(self) -> NDArray[np.float64]:
        """Joint positions (nu,) [rad or m]; joints have no end stops."""
        return self._servos.position

    @property
    def speed(self) -> float:
        """Speed of the fastest joint [rad/s or m/s]."""
        return float(np.abs(self._servos.target).max())


class WatchdogReport:
    """The last diagnostics of the command watchdog."""

    def __init__(self, probe: Probe) -> None:
        self.status = DiagnosticStatus()
        self._probe = probe
        probe.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == NAME:
                self.status = status

    def __getitem__(self, key: str) -> str:
        return next((pair.value for pair in self.status.values if pair.key == key), "")

    def wait(self, key: str, value: str) -> None:
        """Wait until a key has a value."""
        self._probe.wait(lambda: self[key] == value, f"watchdog's {key} {value}: {self.status}")
