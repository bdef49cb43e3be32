"""The robot's own description: the URDF on `robot_description` is compared with the model, once.

robot_state_publisher latches it. The first one after `configure` counts; then the subscription
ends, so that nothing is received in the control loop. A child process reads and compares it, and a
thread waits for that one.
"""

from threading import Thread

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from std_msgs.msg import String

from polyreach_description import RobotError
from polyreach_description.description_check import (
    MAX_DESCRIPTION_BYTES,
    compare,
    described_robot,
)
from polyreach_description.description_diff import DescribedRobot
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.ros.entities import Entities

TOPIC = "robot_description"
FROM_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
POLL_S = 0.1  # [s] between two looks at whether the comparison has ended


class DescriptionCheck:
    """Refuses motion, or only reports it, if the robot describes itself as another one."""

    def __init__(self, node: Node, entities: Entities, control: ReachControl) -> None:
        self.difference = ""  # for the status; '' while there is none
        self._logger = node.get_logger()
        self._entities = entities
        self._control = control
        self._mode = "off"
        self._subscription: Subscription | None = None
        self._thread: Thread | None = None
        self._found: list[str] | None = None  # differences, once compared
        self._poll_timer = entities.timer(POLL_S, self._poll)

    def configure(self, mode: str) -> None:
        """Check the description from now on, or no more; mode: off, warn or refuse."""
        self._mode = mode
        is_open = self._found is None and self._thread is None
        if mode != "off" and is_open and self._subscription is None:
            try:
                self._robot = described_robot(self._control.robot)
            except RobotError as error:
                self._found = [f"the robot has no URDF to compare with: {error}"]
            else:
                self._subscription = self._entities.subscribe(
                    String, TOPIC, self._on_description, FROM_LATCHED
                )
        elif mode == "off":
            self._unsubscribe()
        self._apply()

    def _on_description(self, message: String) -> None:
        if self._thread is not None or self._found is not None:
            return
        if (size := len(message.data)) > MAX_DESCRIPTION_BYTES:
            self._found = [f"it has {size} characters, expected at most {MAX_DESCRIPTION_BYTES}"]
        else:
            self._thread = Thread(
                target=self._compare, args=(message.data, self._robot), daemon=True
            )
            self._thread.start()
        self._poll_timer.reset()

    def _compare(self, description: str, robot: DescribedRobot) -> None:
        try:
            self._found = compare(description, robot)
        except Exception as error:  # in this thread, nobody else would take it
            self._found = [f"it cannot be compared: {type(error).__name__}: {error}"]

    def _poll(self) -> None:
        self._unsubscribe()
        if self._found is None:
            return
        self._poll_timer.cancel()
        self._apply()
        if not self.difference and self._mode != "off":
            self._logger.info(f"{TOPIC} agrees with the model")

    def _apply(self) -> None:
        """Let the status and the watchdog know what was found."""
        found, watchdog = self._found, self._control.watchdog
        differs = f"{TOPIC} differs from the model: {'; '.join(found)}" if found else ""
        if differs and self._mode == "warn" and not self.difference:
            self._logger.warning(differs)
        refuses = self._mode == "refuse"
        self.difference = "" if self._mode == "off" else differs
        watchdog.refused = differs if refuses else ""
        watchdog.awaited = (
            f"no {TOPIC} yet (description_check: refuse)" if refuses and found is None else ""
        )

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._entities.unsubscribe(self._subscription)
            self._subscription = None
