"""Topics and services of a controller, relative to its name, and the quality of service of both
ends.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

STATUS = "status"  # diagnostic_msgs/DiagnosticStatus, LATCHED; see client/status.py
POLICY_METADATA = "policy_metadata"  # std_msgs/String with one JSON object, LATCHED
# keys of that object beside those of the policy file:
FRAMES = "goal_frames"  # links and effectors of the robot that may be frames of goals
TAKES_TF = "use_tf"  # whether frames of TF may be, too
COMMANDS = "commands"  # std_msgs/Float64MultiArray [rad/s or m/s]
RESUMED = "resumed"  # std_msgs/Empty, after every call of RESUME
MARKERS = "markers"  # visualization_msgs/MarkerArray

HALT, RESUME, CLEAR_GOALS = "halt", "resume", "clear_goals"  # std_srvs/Trigger
SPEED_SCALE = "speed_scale"  # parameter, 0 to 1

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
