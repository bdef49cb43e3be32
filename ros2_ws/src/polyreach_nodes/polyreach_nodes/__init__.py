"""ROS 2 nodes that drive a branched robot with a learned policy, and the pure parts inside."""
