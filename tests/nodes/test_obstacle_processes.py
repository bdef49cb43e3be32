"""Obstacles over ROS: a marker in the way of a goal stops the robot, its deletion lets it go on."""

from time import sleep

import hostile_obstacles as hostile
from rig import FakeHardware, Process
from scenarios import Probe
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_description import Robot
from polyreach_nodes.client.obstacles import deletion, obstacle_marker
from polyreach_nodes.client.topics import OBSTACLES
from polyreach_nodes.control.obstacle import Obstacle, Shape

RADIUS, TOLERANCE = 0.05, 0.002  # [m]


def test_an_obstacle_stops_the_robot_until_it_is_deleted(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    markers: list[MarkerArray] = []
    topic = f"{probe.controller}/{OBSTACLES}"
    publisher = probe.node.create_publisher(MarkerArray, topic, 10)
    shown = f"{probe.controller}/markers"
    subscription = probe.node.create_subscription(MarkerArray, shown, markers.append, 10)
    probe.wait(lambda: publisher.get_subscription_count() > 0, "subscription to obstacles")
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    goals = planar8.forward_kinematics(planar8.home + 0.25)

    # a message that is refused: nothing changes
    ball = obstacle_marker("table", 0, Marker.SPHERE, goals[0], [2 * RADIUS] * 3)
    bad = obstacle_marker("table", 1, Marker.CUBE, goals[0], [0.1, -0.1, 0.1])
    publisher.publish(MarkerArray(markers=[ball, bad]))
    refusal = "marker 'table/1': scale is (0.1, -0.1, 0.1), but must be greater than 0"
    probe.wait(lambda: refusal in (probe.value("refused obstacles") or ""), "refusal")
    assert probe.value("obstacles") == "0"

    # at the goal of the first effector
    publisher.publish(MarkerArray(markers=[ball]))
    probe.wait(lambda: probe.value("obstacles") == "1", "an obstacle")
    assert probe.value("refused obstacles") == ""
    place = tuple(goals[0].tolist())
    obstacle = Obstacle("table/0", Shape.SPHERE, (RADIUS, 0.0, 0.0), place, (0.0, 0.0, 0.0, 1.0))
    scene, stop = hostile.Scene(planar8, [obstacle]), planar8.stop_distance

    def distance() -> float:
        scene.at(hardware.position, 0.0)
        return float(scene.distances().min())

    probe.send_goal(planar8.effector_names[0], goals[0])
    probe.wait(lambda: distance() < stop + TOLERANCE, "the obstacle is near")
    for _ in range(200):
        assert distance() > stop - TOLERANCE
        sleep(0.01)
    reason = "and obstacle 'table/0' are 10 mm apart"
    assert reason in probe.value("slowed") and reason in probe.statuses[-1].message
    assert probe.value("reached") == "false"
    names = [(marker.ns, marker.scale.x) for marker in markers[-1].markers]
    assert ("obstacles", 2 * RADIUS) in names
    probe.wait(lambda: any(m.ns == "distances" for m in markers[-1].markers), "its distance")

    publisher.publish(MarkerArray(markers=[deletion("table", 0)]))
    probe.wait(lambda: probe.value("reached") == "true", "goal reached")
    assert probe.value("obstacles") == "0"
    probe.node.destroy_publisher(publisher)
    probe.node.destroy_subscription(subscription)
