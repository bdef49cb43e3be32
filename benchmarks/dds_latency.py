"""State in to command out through DDS, beside a bare rclpy node that echoes: the floor."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import onnx
import rclpy
import yaml
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from polyreach.export import robot_contract
from polyreach_description import Robot, load_robot
from polyreach_nodes.policy import find_policy

RATES = (100.0, 200.0, 500.0)  # [Hz] of joint states and of control
ROUNDS = 3
SECONDS = 4.0  # of one measurement
READY_S = 20.0


@dataclass
class Measured:
    """Latencies [s], joint states that no command answered, and share of one core."""

    latency: list[float] = field(default_factory=list)
    missed: int = 0
    cpu: list[float] = field(default_factory=list)

    def quantile_us(self, share: float) -> float:
        """Of the latency [us]."""
        return 1e6 * float(np.quantile(self.latency, share))


class Harness:
    """Sends joint states and times the commands that answer them; one thread."""

    def __init__(self, robot: Robot) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node("harness", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publisher = self.node.create_publisher(JointState, "joint_states", 1)
        self.node.create_subscription(Float64MultiArray, "commands", self._on_command, 1)
        self._state = JointState(name=list(robot.joint_names), position=robot.home.tolist())
        self._answered_s = 0.0
        self._moving = False

    def _on_command(self, message: Float64MultiArray) -> None:
        self._answered_s = monotonic()
        self._moving = any(message.data)

    def run(self, rate: float, seconds: float, wants_motion: bool = False) -> Measured:
        """Joint states at a rate [Hz] for some seconds; the first command after each counts."""
        found, next_s = Measured(), monotonic()
        end_s = next_s + seconds
        while next_s < end_s:
            sent_s = monotonic()
            self._publisher.publish(self._state)
            next_s = max(next_s + 1.0 / rate, sent_s)
            while (left_s := next_s - monotonic()) > 0.0:
                self._executor.spin_once(timeout_sec=left_s)
                if self._answered_s > sent_s:
                    break
            if self._answered_s > sent_s and (self._moving or not wants_motion):
                found.latency.append(self._answered_s - sent_s)
            else:
                found.missed += 1
            sleep(max(0.0, next_s - monotonic()))
        return found

    def wait(self, robot: Robot, rate: float) -> None:
        """Send joint states, and goals once somebody listens, until commands move joints."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        ready: list[String] = []
        self.node.create_subscription(
            String, "polyreach_controller/policy_metadata", ready.append, latched
        )
        goals = robot.forward_kinematics(robot.sample_configuration(np.random.default_rng(0), 1)[0])
        publishers = [
            self.node.create_publisher(PoseStamped, f"polyreach_controller/goals/{name}", 1)
            for name in robot.effector_names
        ]
        end_s = monotonic() + READY_S
        while monotonic() < end_s:
            if self.run(rate, 0.5).missed < 5 and self._moving:
                return
            for publisher, goal in zip(publishers, goals, strict=True):
                message = PoseStamped()
                point = message.pose.position
                point.x, point.y, point.z = goal.tolist()
                publisher.publish(message)
        raise RuntimeError(f"the controller does not move after {READY_S:g} s")

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


def at_rate(robot: Robot, rate: float, folder: Path) -> tuple[Path, Path]:
    """The robot's file and its shipped policy, both made to say another control rate [Hz]."""
    source = robot.file.path
    content = yaml.safe_load(source.read_text())
    content |= {"control_rate": rate, "model": str(robot.file.model)}
    path, policy = folder / "robot.yaml", folder / "policy.onnx"
    path.write_text(yaml.safe_dump(content))
    model = onnx.load(find_policy(robot.name))
    texts = {pair.key: pair.value for pair in model.metadata_props}
    for key, value in robot_contract(load_robot(path)).items():
        texts[key] = json.dumps(value)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, policy)
    return path, policy


@contextmanager
def process(*words: str) -> Iterator[int]:
    """A Python process; its id."""
    child = subprocess.Popen([sys.executable, *words])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def cpu_s(pid: int) -> float:
    """CPU time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_one(robot: Robot, rate: float, words: list[str], moves: bool, into: Measured) -> None:
    """Start a node, warm up, and add one measurement."""
    with process(*words) as pid:
        harness = Harness(robot)
        try:
            if moves:
                harness.wait(robot, rate)
            else:
                end_s = monotonic() + READY_S
                while harness.run(rate, 0.5).missed > 5 and monotonic() < end_s:
                    pass
            harness.run(rate, 1.0)
            before_s, start_s = cpu_s(pid), monotonic()
            found = harness.run(rate, SECONDS, wants_motion=moves)
            into.cpu.append((cpu_s(pid) - before_s) / (monotonic() - start_s))
            into.latency += found.latency
            into.missed += found.missed
        finally:
            harness.close()


def measure(robot_name: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for one robot, with its shipped policy, at RATES."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 99)
    robot, rows = load_robot(robot_name), []
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            path, policy = at_rate(robot, rate, Path(folder))
            parameters = {
                "robot": str(path),
                "policy": str(policy),
                "autostart": True,
                "joint_state_timeout": 0.1,  # a busy machine must not turn this into a stop
                "following_timeout": 0.0,  # the joints of this harness stand
            }
            file = Path(folder) / "parameters.yaml"
            file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
            controller = ["-m", "polyreach_nodes.controller_node", "--ros-args"]
            controller += ["--params-file", str(file), "-r", "~/commands:=commands"]
            controller += ["--log-level", "error"]
            echo = ["-m", "benchmarks.echo_node", str(len(robot.joint_names))]
            ours, floor = Measured(), Measured()
            for _ in range(ROUNDS):
                run_one(robot, rate, controller, True, ours)
                run_one(robot, rate, echo, False, floor)
        rows.append((f"{robot_name} at {rate:g} Hz", _row(ours, floor)))
    return rows


def _row(ours: Measured, floor: Measured) -> str:
    quantiles = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine, least = ours.quantile_us(share), floor.quantile_us(share)
        quantiles.append(f"{name} {mine / least:.2f} x ({mine:.0f} against {least:.0f} us)")
    cpu = f"CPU {100 * np.median(ours.cpu):.0f} against {100 * np.median(floor.cpu):.0f} %"
    return ", ".join([*quantiles, cpu, f"late or lost {ours.missed} and {floor.missed}"])
