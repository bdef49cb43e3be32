"""Topics and services of a controller, relative to its name, and the quality of service of both
ends.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from polyreach_nodes.parameters import CommandInterface

STATUS = "status"  # diagnostic_msgs/DiagnosticStatus, LATCHED; see client/status.py
POLICY_METADATA = "policy_metadata"  # std_msgs/String with one JSON object, LATCHED
COMMANDS = "commands"  # std_msgs/Float64MultiArray [rad/s or m/s]
POSITION_COMMANDS = "position_commands"  # std_msgs/Float64MultiArray [rad or m]
JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory
RESUMED = "resumed"  # std_msgs/Empty, after every call of RESUME
MARKERS = "markers"  # visualization_msgs/MarkerArray

HALT, RESUME, CLEAR_GOALS = "halt", "resume", "clear_goals"  # std_srvs/Trigger
SPEED_SCALE = "speed_scale"  # parameter, 0 to 1

COMMAND_TOPICS = {
    CommandInterface.VELOCITY: COMMANDS,
    CommandInterface.POSITION: POSITION_COMMANDS,
    CommandInterface.TRAJECTORY: JOINT_TRAJECTORY,
}
"""Topics of different quantities have different names: no node takes a position for a velocity."""

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""A late subscriber gets the last message at once."""
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Of a stream of joint states, only the newest counts."""


def goal_topic(effector: str) -> str:
    """Topic of an effector's goals, geometry_msgs/PoseStamped."""
    return f"goals/{effector}"


def clear_goal_service(effector: str) -> str:
    """Service that clears the goal of one effector, std_srvs/Trigger."""
    return f"clear_goal/{effector}"
