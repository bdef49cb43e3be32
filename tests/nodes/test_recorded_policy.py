"""What a policy got in a recorded period is enough to compute its action again."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import sleep

import numpy as np
import onnxruntime as ort
from mcap_ros2.reader import read_ros2_messages
from pose_policy import export_pose_least_squares
from rig import FakeHardware, Launcher, set_parameter
from scenarios import Probe, assert_reaches, reachable_goals
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_description import Robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import NO_OBSTACLE
from polyreach_nodes.client.obstacles import obstacle_marker
from polyreach_nodes.client.topics import OBSTACLES

Tensors = dict[str, np.ndarray]
PREFIX = "/polyreach_controller/policy/"


def recorded_periods(path: Path) -> list[Tensors]:
    """The tensors of each period in which a policy was computed."""
    periods: dict[int, Tensors] = defaultdict(dict)
    for message in read_ros2_messages(path):
        if message.channel.topic.startswith(PREFIX):
            array = message.ros_msg
            shape = [dim.size for dim in array.layout.dim]
            values = np.array(array.data, np.float32).reshape(shape)
            periods[message.log_time_ns][message.channel.topic.removeprefix(PREFIX)] = values
    return [periods[time_ns] for time_ns in sorted(periods)]


def assert_computed_again(periods: list[Tensors], policy: Path) -> None:
    """Every action follows from the inputs of its period, and every memory from the one before."""
    session = ort.InferenceSession(policy)
    names = [tensor.name for tensor in session.get_inputs()]
    outputs = [tensor.name for tensor in session.get_outputs()]
    next_memory, continued, moving = None, 0, 0
    for tensors in periods:
        assert {*tensors} == {*names, "joint_vel"}
        results = session.run(None, {name: tensors[name][None] for name in names})
        computed = {name: values[0] for name, values in zip(outputs, results, strict=True)}
        assert np.allclose(computed["joint_vel"], tensors["joint_vel"], rtol=0.0, atol=1e-5)
        moving += tensors["joint_vel"].any()
        if "memory" in tensors:
            if next_memory is not None and tensors["memory"].any():
                assert np.allclose(tensors["memory"], next_memory, rtol=1e-5, atol=1e-5)
                continued += 1
            next_memory = computed["next_memory"]
    assert moving > len(periods) / 2
    assert next_memory is None or continued > len(periods) / 2


def test_a_recorded_period_is_computed_again(
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    planar8: Robot,
    tmp_path: Path,
    once: Callable[[str, Callable[[Path], object]], Path],
) -> None:
    """Among obstacles, one of them moving; then with a policy that has fewer inputs."""
    every = once("planar8-every.onnx", lambda path: export_pose_least_squares(planar8, path))
    fewer = find_policy(planar8.name, "digrad")
    parameters = {"policy": str(every), "record_folder": str(tmp_path), "joint_state_timeout": 0.5}
    start("controller_node", {"autostart": True, **parameters})
    publisher = probe.node.create_publisher(MarkerArray, f"{probe.controller}/{OBSTACLES}", 10)
    probe.wait_subscribed(publisher)
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    assert set_parameter(probe, "record", "run.mcap") == (True, "")
    places = [np.array([0.3, 0.9, 0.0]), np.array([-0.6, -0.4, 0.0])]
    goals = planar8.forward_kinematics(planar8.home + 0.3)
    for step in range(50):
        places[1][1] += 0.002
        balls = [
            obstacle_marker("test", number, Marker.SPHERE, place, [0.1] * 3)
            for number, place in enumerate(places)
        ]
        publisher.publish(MarkerArray(markers=balls))
        if step == 2:
            for effector, goal in zip(planar8.effector_names, goals, strict=True):
                probe.send_goal(effector, goal)
        sleep(0.05)
    probe.wait(lambda: probe.value("obstacles") == "2", "obstacles")
    assert probe.transition("deactivate")
    assert set_parameter(probe, "policy", str(fewer)) == (True, "")
    assert probe.transition("activate")
    probe.wait_state("IDLE")
    assert_reaches(probe, reachable_goals(planar8, seed=3, count=1)[0], tolerance_m=0.05)
    assert set_parameter(probe, "record", "") == (True, "")
    sleep(0.5)

    periods = recorded_periods(tmp_path / "run.mcap")
    with_obstacles = [tensors for tensors in periods if "obstacles" in tensors]
    others = [tensors for tensors in periods if "obstacles" not in tensors]
    assert len(with_obstacles) > 20 and len(others) > 20
    seen = [tensors["obstacles"] for tensors in with_obstacles]
    assert all(np.allclose(rows[0, :3], places[0]) for rows in seen)
    assert len({rows[1, 1] for rows in seen}) > 5  # it moves
    assert all(np.array_equal(rows[2], np.float32(NO_OBSTACLE)) for rows in seen)
    assert_computed_again(with_obstacles, every)
    assert_computed_again(others, fewer)
