"""Topics, services and timers that one object makes and gives back together."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_srvs.srv import Trigger


class Refusal(Exception):
    """A request that is not granted; its text is the answer, and it is no error of the node."""


class Entities:
    """Makes entities of a node; an exception in one of their callbacks goes to `on_error`."""

    def __init__(self, node: Node, on_error: Callable[[Exception], None]) -> None:
        self._node = node
        self._on_error = on_error
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._services: list[Service] = []
        self._timers: list[Timer] = []

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Publisher:
        """A publisher of messages of a class."""
        self._publishers.append(self._node.create_publisher(kind, topic, qos))
        return self._publishers[-1]

    def subscribe(
        self, kind: type, topic: str, act: Callable[[Any], None], qos: QoSProfile | int
    ) -> Subscription:
        """Call `act` with every message of a topic."""
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, partial(self._call, act), qos)
        )
        return self._subscriptions[-1]

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription before the others."""
        self._subscriptions.remove(subscription)
        self._node.destroy_subscription(subscription)

    def serve(self, name: str, act: Callable[[], str]) -> None:
        """Offer a std_srvs/Trigger service; `act` returns the message of the response, or raises
        Refusal.
        """
        self._services.append(self._node.create_service(Trigger, name, partial(self._answer, act)))

    def timer(self, period_s: float, act: Callable[[], None], autostart: bool = False) -> Timer:
        """A timer of steady time [s], which waits for reset() unless autostart."""
        self._timers.append(
            self._node.create_timer(
                period_s, partial(self._call, act), clock=self._steady, autostart=autostart
            )
        )
        return self._timers[-1]

    def destroy(self) -> None:
        """Give back all of them."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for service in self._services:
            self._node.destroy_service(service)
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def _call(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            self._on_error(error)

    def _answer(
        self, act: Callable[[], str], _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        try:
            response.message, response.success = act(), True
        except Refusal as refusal:
            response.message, response.success = str(refusal), False
        except Exception as error:
            self._on_error(error)
            response.message, response.success = str(error), False
        return response
