"""The client of a controller, with a node that publishes what no controller would."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from polyreach_nodes.client.controller_client import ControllerClient
from polyreach_nodes.client.topics import LATCHED, goal_topic
from polyreach_nodes.ros.spin import spin_until


@dataclass
class Rig:
    """A client, and publishers of its controller's topics."""

    node: Node
    executor: SingleThreadedExecutor

    def __post_init__(self) -> None:
        self.statuses = self.node.create_publisher(DiagnosticStatus, "arm/status", LATCHED)
        self.metadata = self.node.create_publisher(String, "arm/policy_metadata", LATCHED)
        self.calls = 0
        self.client = ControllerClient(self.node, "arm", on_status=self.count)

    def count(self) -> None:
        self.calls += 1

    def publish(self, **values: str) -> None:
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        self.statuses.publish(DiagnosticStatus(message="a message", values=pairs))

    def wait(self, done: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        return spin_until(self.executor, done, timeout_s)

    def topics(self) -> set[str]:
        """Topics under the controller's name that the node publishes or subscribes to."""
        own = (self.node.get_name(), self.node.get_namespace())
        publishers = self.node.get_publisher_names_and_types_by_node(*own)
        subscriptions = self.node.get_subscriber_names_and_types_by_node(*own)
        return {name for name, _ in (*publishers, *subscriptions) if name.startswith("/arm/")}


@pytest.fixture
def rig(ros_domain_id: int) -> Iterator[Rig]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    node = Node("client", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield Rig(node, executor)
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_a_status_that_cannot_be_read_leaves_the_last_one(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.publish(state="IDLE", rejected_effector="left")
    assert rig.wait(lambda: rig.client.status.state == "IDLE")
    assert rig.client.status.rejected_effector == "left"
    assert rig.client.status.message == "a message"
    before, calls = rig.client.status, rig.calls
    rig.publish(state="ACTIVE", **{"error/left": "far"})
    assert not rig.wait(lambda: rig.client.status is not before, timeout_s=0.5)
    rig.publish(text="hello")
    assert not rig.wait(lambda: rig.client.status is not before, timeout_s=0.5)
    assert rig.calls == calls
    log = capfd.readouterr().err
    assert "/arm/status: status value 'error/left' is 'far', but must be a finite number" in log
    assert "/arm/status: the status has no value 'state'" in log
    rig.publish(state="HALTED")
    assert rig.wait(lambda: rig.client.status.state == "HALTED")


def test_metadata_that_cannot_be_read_leaves_the_last_ones(rig: Rig) -> None:
    rig.client.follow_policy()
    rig.metadata.publish(String(data='{"base_frame": "base", "effector_names": ["left"]}'))
    assert rig.wait(lambda: rig.client.effectors == ("left",))
    for text in ("no JSON", "[]", "{}", '{"base_frame": "other", "effector_names": 7}'):
        rig.metadata.publish(String(data=text))
        rig.wait(lambda: False, timeout_s=0.1)
    assert (rig.client.base_frame, rig.client.effectors) == ("base", ("left",))


def test_there_are_no_topics_and_services_but_those_of_use(rig: Rig) -> None:
    published = {"/arm/status", "/arm/policy_metadata"}
    assert rig.topics() == published
    rig.client.advertise_goals(["left", "right"])
    assert rig.wait(
        lambda: rig.topics() == published | {f"/arm/{goal_topic(e)}" for e in ("left", "right")}
    )
    rig.client.advertise_goals(["right"])
    assert rig.wait(lambda: rig.topics() == published | {"/arm/goals/right"})
    assert not rig.client.takes_goals("left") and not rig.client.takes_goals("right")
    rig.client.use_services(["halt", "clear_goal/left"])
    clients = rig.node.get_client_names_and_types_by_node("client", "/")
    assert {name for name, _ in clients} >= {"/arm/halt", "/arm/clear_goal/left"}
    assert not rig.client.offers("halt") and not rig.client.offers("resume")
