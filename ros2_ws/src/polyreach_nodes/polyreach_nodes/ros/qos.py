"""Quality of service that several nodes share."""

from rclpy.qos import DurabilityPolicy, QoSProfile

# a late subscriber gets the last message at once
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
