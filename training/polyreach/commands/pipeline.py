"""The controller's limits and distances, for evaluations."""

import numpy as np
from numpy.typing import NDArray

from polyreach.commands.nodes import import_nodes
from polyreach.deploy.controllers import Conditioner
from polyreach.errors import UserError
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]


def controller_pipeline(robot: Robot) -> Conditioner | None:
    """What the controller does between a policy and the command, with its default parameters:
    velocity, acceleration and position limits, slow-downs and stops near the robot's own body.

    None where the package polyreach_nodes is not installed.
    """
    try:
        limits = import_nodes("control.limits")
        proximity = import_nodes("control.proximity")
    except UserError:
        return None
    period_s = 1.0 / robot.control_rate
    joints = limits.JointLimits(
        robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits, period_s
    )
    bodies = proximity.Proximity(robot, robot.slow_distance, robot.stop_distance)

    def condition(wanted: Array, inputs: PolicyInputs[Array]) -> Array:
        before = inputs.previous_joint_vel
        assert before is not None
        command = np.zeros(wanted.shape)
        for row, (v, q, previous) in enumerate(zip(wanted, inputs.joint_pos, before, strict=True)):
            limited = joints.apply(v, previous, q, 1.0, period_s)
            change = joints.change(period_s)
            command[row], _ = bodies.scale_command(limited, previous, q, change)
        return command

    return condition
