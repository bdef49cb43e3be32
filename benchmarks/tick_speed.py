"""Compute time of a control period, joint state in to command out, beside ONNX inference alone."""

from array import array
from pathlib import Path
from time import monotonic

import numpy as np

from benchmarks.timing import seconds_per_call
from polyreach_description import load_robot
from polyreach_nodes.control import ReachControl
from polyreach_nodes.policy import Policy, find_policy


def measure(robot_name: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for one robot, with its shipped policy and without any transport."""
    robot = load_robot(robot_name)
    path: Path = find_policy(robot_name)
    control = ReachControl(robot, Policy.load(path, robot))
    control.activate()
    goals = robot.forward_kinematics(robot.sample_configuration(np.random.default_rng(0), 1)[0])
    for name, goal in zip(robot.effector_names, goals, strict=True):
        control.set_goal(name, "", tuple(goal.tolist()), monotonic())
    names = [robot.model.joint(joint).name for joint in range(robot.model.njnt)]
    position = array("d", robot.qpos(robot.home)[[robot.model.joint(n).qposadr[0] for n in names]])
    command = np.zeros(len(robot.joint_names))

    def tick() -> None:
        now = monotonic()
        control.receive(names, position, now)
        command[:] = control.tick(now)

    def inference() -> None:
        control.policy.compute(control.joint_pos, control.goals, control.active)

    seconds = seconds_per_call({"tick": tick, "inference": inference})
    assert np.abs(command).max() > 0, "the controller must be moving for this to count"
    micro = {name: 1e6 * value for name, value in seconds.items()}
    ratio = micro["tick"] / micro["inference"]
    text = f"{ratio:.2f} x ({micro['tick']:.0f} against {micro['inference']:.0f} us)"
    return [(f"{robot_name}, over ONNX inference alone", text)]
