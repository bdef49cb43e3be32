"""Topics and services of a controller, relative to its name, and the quality of service of both
ends.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from polyreach_nodes.parameters import CommandInterface

STATUS = "status"  # diagnostic_msgs/DiagnosticStatus, LATCHED; see client/status.py
POLICY_METADATA = "policy_metadata"  # std_msgs/String with one JSON object, LATCHED
# keys of that object beside those of the policy file:
FRAMES = "goal_frames"  # links and effectors of the robot that may be frames of goals
TAKES_TF = "use_tf"  # whether frames of TF may be, too
COMMANDS = "commands"  # std_msgs/Float64MultiArray [rad/s or m/s]
POSITION_COMMANDS = "position_commands"  # std_msgs/Float64MultiArray [rad or m]
JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory
RESUMED = "resumed"  # std_msgs/Empty, after every call of RESUME
JOINT_JOG = "joint_jog"  # sensor_msgs/JointState, names and velocities
MARKERS = "markers"  # visualization_msgs/MarkerArray
OBSTACLES = "obstacles"  # visualization_msgs/MarkerArray, OBSTACLE_QUEUE messages

HALT, RESUME, CLEAR_GOALS, HOLD = "halt", "resume", "clear_goals", "hold"  # std_srvs/Trigger
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


OBSTACLE_QUEUE = 10
"""Messages of obstacles that wait: each may change other obstacles."""


def goal_topic(effector: str) -> str:
    """Topic of an effector's goals, geometry_msgs/PoseStamped."""
    return f"goals/{effector}"


def twist_topic(effector: str) -> str:
    """Topic of twists that move an effector's goal, geometry_msgs/TwistStamped."""
    return f"twists/{effector}"


def clear_goal_service(effector: str) -> str:
    """Service that clears the goal of one effector, std_srvs/Trigger."""
    return f"clear_goal/{effector}"
