"""Latency from joint state to command through DDS; a bare rclpy echo node is the lower bound."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

from benchmarks import timing
from polyreach_description import Robot, load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_search import DEFAULT_METHOD, find_policy
from polyreach_nodes.control.policy import MAX_PERIOD_SHARE, Policy
from polyreach_nodes.ros.middleware import loopback_environment

READY_S = 20.0  # timeout for a node to answer
JITTER = 0.1  # share of a period by which a joint state may be late without delaying the next
LOST_S = 0.1  # timeout of an answer
OF_RATE = ("update_rate", "robot_sha256")  # metadata that depend on the rate
RESERVE = 0.8  # share of the time a policy may take, below which no trial refuses it
LIGHT_METHOD = "digrad"  # whose shipped policies take a tenth of a millisecond
DIRECT = ("-r", "~/commands:=commands")  # connects a controller to the harness


@dataclass(frozen=True)
class Schedule:
    """rates: [Hz] of joint states and of control. seconds: duration of one measurement [s]."""

    rates: tuple[float, ...]
    rounds: int
    seconds: float


FULL = Schedule(rates=(100.0, 200.0, 500.0), rounds=3, seconds=4.0)
QUICK = Schedule(rates=(100.0,), rounds=1, seconds=1.0)


@dataclass
class Measurement:
    """latency: [s] of answered joint states. late: number answered after the next one was due.
    lost: number never answered. cpu: share of one core, per run.
    """

    latency: list[float] = field(default_factory=list)
    late: int = 0
    lost: int = 0
    cpu: list[float] = field(default_factory=list)

    @property
    def kept(self) -> float:
        """Share of control periods in which the command arrived before the next joint state."""
        sent = len(self.latency) + self.lost
        return (len(self.latency) - self.late) / sent if sent else 0.0

    def quantile_us(self, share: float) -> float:
        """Quantile of the latency [us]; NaN without answers."""
        return 1e6 * float(np.quantile(self.latency, share)) if self.latency else float("nan")


class Harness:
    """Sends joint states and times the commands that answer them, in one thread."""

    def __init__(self, robot: Robot) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node("harness", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publisher = self.node.create_publisher(JointState, "joint_states", 1)
        self.node.create_subscription(Float64MultiArray, "commands", self._on_command, 1)
        self._state = JointState(name=list(robot.joint_names), position=robot.home.tolist())
        self._command_s = 0.0
        self._moving = False

    def _on_command(self, message: Float64MultiArray) -> None:
        self._command_s = monotonic()
        self._moving = any(message.data)

    def run(self, rate: float, seconds: float, expect_motion: bool = False) -> Measurement:
        """Send joint states at a rate [Hz] for some seconds, each after the answer to the last.

        A late answer delays the next joint states, so that every answer belongs to one joint state
        and none is sent before the controller's next period is due. The timeout is LOST_S.
        """
        measured, next_s = Measurement(), monotonic()
        end_s = next_s + seconds
        while next_s < end_s:
            sleep(max(0.0, next_s - monotonic()))
            sent_s = monotonic()
            # 1 / rate after the last one was due, or after it was sent if that was much later
            next_s = (next_s if sent_s - next_s < JITTER / rate else sent_s) + 1.0 / rate
            self._publisher.publish(self._state)
            while self._command_s <= sent_s and (left_s := sent_s + LOST_S - monotonic()) > 0.0:
                self._executor.spin_once(timeout_sec=left_s)
            if self._command_s > sent_s and (self._moving or not expect_motion):
                measured.latency.append(self._command_s - sent_s)
                measured.late += self._command_s > next_s
            else:
                measured.lost += 1
        return measured

    def wait(self, robot: Robot, rate: float) -> None:
        """Send joint states, and goals once joint states are answered, until joints move."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        metadata: list[String] = []
        self.node.create_subscription(
            String, "polyreach_controller/policy_metadata", metadata.append, latched
        )
        goals = robot.forward_kinematics(robot.sample_configuration(np.random.default_rng(0), 1)[0])
        publishers = [
            self.node.create_publisher(PoseStamped, f"polyreach_controller/goals/{name}", 1)
            for name in robot.effector_names
        ]
        end_s = monotonic() + READY_S
        while monotonic() < end_s:
            answers = self.run(rate, 0.5)
            if self._moving:
                return
            if len(answers.latency) < answers.lost:
                continue  # during discovery; early motion would trip the watchdog
            for publisher, goal in zip(publishers, goals, strict=True):
                message = PoseStamped()
                point = message.pose.position
                point.x, point.y, point.z = goal.tolist()
                publisher.publish(message)
        raise RuntimeError(f"the controller does not move after {READY_S:g} s")

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


def write_at_rate(robot: Robot, rate: float, folder: Path, method: str) -> tuple[Path, Path]:
    """Write the robot file and its shipped policy of a method with another control rate [Hz]."""
    source = robot.file.path
    content = yaml.safe_load(source.read_text())
    content |= {"control_rate": rate, "model": str(robot.file.model)}
    path, policy = folder / "robot.yaml", folder / "policy.onnx"
    path.write_text(yaml.safe_dump(content))
    model = onnx.load(find_policy(robot.name, method))
    texts = {pair.key: pair.value for pair in model.metadata_props}
    metadata = robot_metadata(load_robot(path))
    texts |= {key: json.dumps(metadata[key]) for key in OF_RATE if key in texts}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, policy)
    return path, policy


@contextmanager
def process(*arguments: str) -> Iterator[int]:
    """Run a Python process; yields its id."""
    child = subprocess.Popen([sys.executable, *arguments])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def cpu_s(pid: int) -> float:
    """CPU time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_node(
    robot: Robot,
    rate: float,
    seconds: float,
    node: list[str],
    expect_motion: bool,
    total: Measurement,
    watchdog: list[str] | None = None,
) -> None:
    """Start a node, after the watchdog if there is one, warm up, and add one run to `total`.

    node, watchdog: arguments of Python.
    """
    with ExitStack() as processes:
        pids = [processes.enter_context(process(*args)) for args in (watchdog, node) if args]
        harness = Harness(robot)
        try:
            if expect_motion:
                harness.wait(robot, rate)
            else:
                end_s = monotonic() + READY_S
                while not harness.run(rate, 0.5).latency and monotonic() < end_s:
                    pass
            harness.run(rate, 0.25 * seconds)
            before_s, start_s = sum(map(cpu_s, pids)), monotonic()
            measured = harness.run(rate, seconds, expect_motion)
            total.cpu.append((sum(map(cpu_s, pids)) - before_s) / (monotonic() - start_s))
            total.latency += measured.latency
            total.late += measured.late
            total.lost += measured.lost
        finally:
            harness.close()


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows (comparison, ratio) for one robot with its shipped policies, one per method and rate.

    A rate that the controller cannot keep gives a row with the share of periods it keeps, and one
    at which it may refuse the policy a row with the time that the policy takes.
    """
    os.environ.update(loopback_environment(os.environ))
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 99)
    robot, schedule = load_robot(robot_name), QUICK if timing.quick else FULL
    echo = ["-m", "benchmarks.echo_node", str(len(robot.joint_names))]
    for method in (DEFAULT_METHOD, LIGHT_METHOD):
        worst_s = Policy.load(find_policy(robot_name, method), robot).worst_compute_s
        for rate in schedule.rates:
            row = f"{robot_name}, {method}, at {rate:g} Hz"
            if worst_s > RESERVE * MAX_PERIOD_SHARE / rate:
                yield row, f"too slow: the policy takes up to {1e3 * worst_s:.1f} ms"
                continue
            with tempfile.TemporaryDirectory() as folder:
                path, policy = write_at_rate(robot, rate, Path(folder), method)
                controller = [*controller_arguments(path, policy), *DIRECT]
                ours, baseline = Measurement(), Measurement()
                for _ in range(schedule.rounds):
                    measure_node(robot, rate, schedule.seconds, controller, True, ours)
                    measure_node(robot, rate, schedule.seconds, echo, False, baseline)
            yield row, ratio_text(ours, baseline)


def controller_arguments(robot: Path, policy: Path) -> list[str]:
    """Arguments of Python that start a controller with these files; see DIRECT."""
    parameters = {
        "robot": str(robot),
        "policy": str(policy),
        "autostart": True,
        "joint_state_timeout": 5 * LOST_S,  # a busy machine must not stop the controller
        "following_timeout": 0.0,  # the joints of this harness do not move
        "outage_timeout": 0.0,  # and its process may be delayed
    }
    file = policy.parent / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    node = ["-m", "polyreach_nodes.controller_node", "--ros-args", "--params-file", str(file)]
    return [*node, "--log-level", "error"]


def ratio_text(ours: Measurement, baseline: Measurement) -> str:
    """Latency relative to the baseline, share of one core, and share of periods kept."""
    quantiles = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        us, baseline_us = ours.quantile_us(share), baseline.quantile_us(share)
        quantiles.append(f"{name} {us / baseline_us:.2f} x ({us:.0f} vs {baseline_us:.0f} us)")
    cpu = f"CPU {100 * np.median(ours.cpu):.0f} vs {100 * np.median(baseline.cpu):.0f} %"
    kept = f"kept {100 * ours.kept:.1f} vs {100 * baseline.kept:.1f} % of the periods"
    return ", ".join([*quantiles, cpu, kept])
