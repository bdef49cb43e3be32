"""State in to command out through DDS, beside a bare rclpy node that echoes: the floor."""

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
from polyreach.deploy.export import robot_contract
from polyreach_description import Robot, load_robot
from polyreach_nodes.control.policy import find_policy
from polyreach_nodes.ros.middleware import loopback_environment

READY_S = 20.0  # for a node to answer
JITTER = 0.1  # share of a period by which a joint state may be sent late without consequences
LOST_S = 0.1  # after which no answer is expected any more
DIRECT = ("-r", "~/commands:=commands")  # of a controller that this harness listens to


@dataclass(frozen=True)
class Effort:
    """rates: [Hz] of joint states and of control. seconds: of one measurement."""

    rates: tuple[float, ...]
    rounds: int
    seconds: float


FULL = Effort(rates=(100.0, 200.0, 500.0), rounds=3, seconds=4.0)
QUICK = Effort(rates=(100.0,), rounds=1, seconds=1.0)


@dataclass
class Measured:
    """Latencies [s] of answered joint states; how many were answered after the next one was due,
    and how many never; share of one core.
    """

    latency: list[float] = field(default_factory=list)
    late: int = 0
    lost: int = 0
    cpu: list[float] = field(default_factory=list)

    @property
    def kept(self) -> float:
        """Share of the control periods in which the command came before the next joint state."""
        sent = len(self.latency) + self.lost
        return (len(self.latency) - self.late) / sent if sent else 0.0

    def quantile_us(self, share: float) -> float:
        """Of the latency [us]; not a number where nothing was answered."""
        return 1e6 * float(np.quantile(self.latency, share)) if self.latency else float("nan")


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
        """Joint states at a rate [Hz] for some seconds, none before the last one is answered.

        A joint state whose answer comes late delays the next ones, so that no answer is taken for
        that to another, and none comes before the controller's next period is due. After LOST_S no
        answer is expected.
        """
        measured, next_s = Measured(), monotonic()
        end_s = next_s + seconds
        while next_s < end_s:
            sleep(max(0.0, next_s - monotonic()))
            sent_s = monotonic()
            # 1 / rate after the last one was due; after it was sent, where that was much later
            next_s = (next_s if sent_s - next_s < JITTER / rate else sent_s) + 1.0 / rate
            self._publisher.publish(self._state)
            while self._answered_s <= sent_s and (left_s := sent_s + LOST_S - monotonic()) > 0.0:
                self._executor.spin_once(timeout_sec=left_s)
            if self._answered_s > sent_s and (self._moving or not wants_motion):
                measured.latency.append(self._answered_s - sent_s)
                measured.late += self._answered_s > next_s
            else:
                measured.lost += 1
        return measured

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
            answers = self.run(rate, 0.5)
            if self._moving:
                return
            if len(answers.latency) < answers.lost:
                continue  # discovery: goals wait, for motion that comes first trips a watchdog
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


def run_one(
    robot: Robot,
    rate: float,
    seconds: float,
    words: list[str],
    moves: bool,
    into: Measured,
    beside: list[str] | None = None,
) -> None:
    """Start a node, and another one `beside` it, warm up, and add one measurement."""
    with ExitStack() as processes:
        pids = [processes.enter_context(process(*start)) for start in (beside, words) if start]
        harness = Harness(robot)
        try:
            if moves:
                harness.wait(robot, rate)
            else:
                end_s = monotonic() + READY_S
                while not harness.run(rate, 0.5).latency and monotonic() < end_s:
                    pass
            harness.run(rate, 0.25 * seconds)
            before_s, start_s = sum(map(cpu_s, pids)), monotonic()
            measured = harness.run(rate, seconds, wants_motion=moves)
            into.cpu.append((sum(map(cpu_s, pids)) - before_s) / (monotonic() - start_s))
            into.latency += measured.latency
            into.late += measured.late
            into.lost += measured.lost
        finally:
            harness.close()


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows of (what, ratio) for one robot, with its shipped policy, at several rates.

    A rate that the controller does not keep is a row like the others, with the share it keeps.
    """
    os.environ.update(loopback_environment(os.environ))
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 99)
    robot, effort = load_robot(robot_name), QUICK if timing.quick else FULL
    for rate in effort.rates:
        with tempfile.TemporaryDirectory() as folder:
            controller = [*controller_words(robot, rate, Path(folder)), *DIRECT]
            echo = ["-m", "benchmarks.echo_node", str(len(robot.joint_names))]
            ours, floor = Measured(), Measured()
            for _ in range(effort.rounds):
                run_one(robot, rate, effort.seconds, controller, True, ours)
                run_one(robot, rate, effort.seconds, echo, False, floor)
        yield f"{robot_name} at {rate:g} Hz", row(ours, floor)


def controller_words(robot: Robot, rate: float, folder: Path) -> list[str]:
    """Arguments of Python that start a controller of this rate [Hz]; see DIRECT."""
    path, policy = at_rate(robot, rate, folder)
    parameters = {
        "robot": str(path),
        "policy": str(policy),
        "autostart": True,
        "joint_state_timeout": 5 * LOST_S,  # a busy machine must not turn this into a stop
        "following_timeout": 0.0,  # the joints of this harness stand
        "outage_timeout": 0.0,  # and its process may be held up
    }
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    words = ["-m", "polyreach_nodes.controller_node", "--ros-args", "--params-file", str(file)]
    return [*words, "--log-level", "error"]


def row(ours: Measured, floor: Measured) -> str:
    """Latency over the floor's, share of one core, and share of the periods kept."""
    quantiles = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine, least = ours.quantile_us(share), floor.quantile_us(share)
        quantiles.append(f"{name} {mine / least:.2f} x ({mine:.0f} against {least:.0f} us)")
    cpu = f"CPU {100 * np.median(ours.cpu):.0f} against {100 * np.median(floor.cpu):.0f} %"
    kept = f"kept {100 * ours.kept:.1f} against {100 * floor.kept:.1f} % of the periods"
    return ", ".join([*quantiles, cpu, kept])
