"""Parts of node tests: policy files, node processes, hardware simulated by messages."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import onnx
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from scenarios import Probe
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from polyreach_description import Robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import REQUIRED_INPUTS
from polyreach_nodes.client.topics import COMMAND_TOPICS
from polyreach_nodes.parameters import CommandInterface
from polyreach_nodes.ros.trajectory_message import read_trajectory


def metadata_of(robot: Robot) -> dict[str, object]:
    """Policy metadata that match the robot."""
    return {
        **robot_metadata(robot),
        "method": "damped_least_squares",
        "method_paper": "Buss & Kim 2005",
        "training": {},
        "evaluation": {},
    }


def with_metadata(source: Path, target: Path, **changes: object) -> Path:
    """Copy a policy file with changed metadata; None removes a key."""
    model = onnx.load(source)
    texts = {pair.key: pair.value for pair in model.metadata_props}
    texts |= {key: json.dumps(value) for key, value in changes.items()}
    kept = {key: text for key, text in texts.items() if changes.get(key, "") is not None}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, target)
    return target


def export_least_squares(robot: Robot, path: Path) -> None:
    """Write a policy file of damped least squares."""
    import torch

    from polyreach.robot.fast_least_squares import FastLeastSquares
    from polyreach.robot.kinematics import ForwardKinematics

    class LeastSquares(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kinematics = ForwardKinematics(robot.tree)
            self.least_squares = FastLeastSquares(len(robot.effector_names), 0.05)
            self.register_buffer(
                "limits", torch.tensor(robot.joint_vel_limits, dtype=torch.float32)
            )

        def forward(
            self, joint_pos: torch.Tensor, goals: torch.Tensor, active: torch.Tensor
        ) -> tuple:
            pose = self.kinematics(joint_pos)
            error = goals - pose.effector
            error = error * torch.clamp(0.15 / (error.norm(dim=-1, keepdim=True) + 1e-9), max=1.0)
            step = 6.0 * self.least_squares(pose.jacobian, error, active)
            excess = (step.abs() / self.limits).amax(-1, keepdim=True)
            return step / torch.clamp(excess, min=1.0), pose.effector

    joints, effectors = len(robot.joint_names), len(robot.effector_names)
    inputs = (torch.zeros(2, joints), torch.zeros(2, effectors, 3), torch.ones(2, effectors))
    torch.onnx.export(
        LeastSquares().eval(),
        inputs,
        str(path),
        input_names=list(REQUIRED_INPUTS),
        output_names=["joint_vel", "effector_pos"],
        dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in REQUIRED_INPUTS},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    with_metadata(path, path, **metadata_of(robot))


_SLOW_CONTROLLER = """#!{python}
import sys
from time import sleep

from polyreach_nodes import controller_node
from polyreach_nodes.control.policy import Policy

compute = Policy.compute


def slow(policy, inputs):
    if inputs.goals[:, 2].max() > 0.5:
        sleep({seconds})
    return compute(policy, inputs)


Policy.compute = slow
sys.exit(controller_node.main())
"""
SLOW_GOAL = np.array([0.8, 0.3, 1.0])  # [m], above the reach of planar8


def slow_controller(folder: Path, seconds: float) -> str:
    """Write an executable: controller_node with a policy that takes `seconds` for SLOW_GOAL.

    A policy file that is as slow would be refused when it is loaded.
    """
    path = folder / "slow_controller"
    path.write_text(_SLOW_CONTROLLER.format(python=sys.executable, seconds=seconds))
    path.chmod(0o755)
    return str(path)


@dataclass
class Process:
    """A running node, started as by a user."""

    popen: "subprocess.Popen[str]"
    log: Path

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        """Send a signal and return the exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout=timeout_s)

    @property
    def output(self) -> str:
        return self.log.read_text()


Launcher = Callable[..., Process]
# if the tests are killed or crash, no node may keep running in a ROS domain that is reused
END_WITH_TESTS = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


@contextmanager
def launching(folder: Path, domain: int) -> Iterator[Launcher]:
    """Yields a function that starts executables: start("sim_node", {"robot": "x"}, "-r", "a:=b").

    Processes still running at the end are killed.
    """
    running: list[Process] = []
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"}

    def launch(
        executable: str, parameters: dict[str, object] | None = None, *words: str
    ) -> Process:
        log = folder / f"{executable}-{len(running)}.log"
        command = [
            *END_WITH_TESTS,
            str(Path(sys.executable).parent / executable),
            *([] if parameters is None else ["--ros-args"]),
        ]
        for name, value in (parameters or {}).items():
            text = json.dumps(value) if isinstance(value, bool | str | list) else str(value)
            command += ["-p", f"{name}:={text}"]
        with log.open("w") as output:
            popen = subprocess.Popen(
                [*command, *words],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        running.append(Process(popen, log))
        return running[-1]

    try:
        yield launch
    finally:
        for process in running:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()


def move(probe: Probe, offset: float) -> None:
    """Send goals far from all effectors and wait for motion."""
    robot = probe.robot
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE", "ACTIVE")
    goals = robot.forward_kinematics(robot.home + offset)
    for effector, goal in zip(robot.effector_names, goals, strict=True):
        probe.send_goal(effector, goal)
    probe.wait_moving()


def set_parameter(probe: Probe, name: str, value: object) -> tuple[bool, str]:
    """Set a parameter of the controller: returns success and the reason of a rejection."""
    return set_parameters(probe, **{name: value})


def set_parameters(probe: Probe, **values: object) -> tuple[bool, str]:
    """Set parameters atomically: returns success and the reason of a rejection."""
    client = probe.client(SetParametersAtomically, "set_parameters_atomically")
    messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    future = client.call_async(SetParametersAtomically.Request(parameters=messages))
    probe.wait(future.done, "answer of set_parameters_atomically")
    result = future.result().result
    return result.successful, result.reason


class CommandLog:
    """Commands of an interface that carries positions, as received; spins with the probe."""

    def __init__(self, probe: Probe, interface: CommandInterface) -> None:
        self.times_s: list[float] = []  # of receipt [s, monotonic]
        self.positions: list[NDArray[np.float64]] = []  # (nu,) [rad or m], of the next period
        self.messages: list[Float64MultiArray | JointTrajectory] = []
        self._names = probe.robot.joint_names
        kind = JointTrajectory if interface is CommandInterface.TRAJECTORY else Float64MultiArray
        topic = f"{probe.controller}/{COMMAND_TOPICS[interface]}"
        probe.node.create_subscription(kind, topic, self._on_command, 50)

    def _on_command(self, message: Float64MultiArray | JointTrajectory) -> None:
        self.times_s.append(monotonic())
        self.messages.append(message)
        if isinstance(message, JointTrajectory):
            self.positions.append(read_trajectory(message, self._names)[0].position)
        else:
            self.positions.append(np.array(message.data))

    def since(self, time_s: float) -> NDArray[np.float64]:
        """Commanded positions (n, nu) [rad or m] received since a time [s, monotonic]."""
        pairs = zip(list(self.times_s), list(self.positions), strict=False)
        rows = [position for at_s, position in pairs if at_s >= time_s]
        return np.array(rows).reshape(len(rows), len(self._names))


class FakeHardware:
    """Publishes joint states that track the commands exactly; a test can alter or stop them.

    log: of commanded positions, which the joints approach with their velocity limits; without it,
    the joints integrate the probe's velocity commands.
    """

    RATE = 100.0  # [Hz]

    def __init__(self, probe: Probe, log: CommandLog | None = None) -> None:
        self._log = log
        self.position = probe.robot.home.copy()
        self.fault: Callable[[JointState], JointState | None] | None = None
        self.last_sent_s = 0.0
        self._probe = probe
        self._publisher = probe.node.create_publisher(JointState, "joint_states", 10)
        self._timer = probe.node.create_timer(1.0 / self.RATE, self._send)

    def _send(self) -> None:
        recent = self._probe.commands[-1:]
        if recent and monotonic() - recent[0].time_s < 0.1:
            low, high = self._probe.robot.joint_pos_limits.T
            self.position = np.clip(self.position + recent[0].joint_vel / self.RATE, low, high)
        if self._log is not None and self._log.positions:
            most = self._probe.robot.joint_vel_limits / self.RATE
            way = self._log.positions[-1] - self.position
            self.position = self.position + np.clip(way, -most, most)
        message = JointState(
            name=list(self._probe.robot.joint_names), position=self.position.tolist()
        )
        output = message if self.fault is None else self.fault(message)
        if output is not None:
            self.last_sent_s = monotonic()
            self._publisher.publish(output)

    def stop(self) -> float:
        """Stop publishing; returns the time of the last joint state [s, monotonic]."""
        self._timer.cancel()
        return self.last_sent_s

    def resume(self) -> None:
        """Publish again."""
        self._timer.reset()
