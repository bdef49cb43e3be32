"""What an exported policy computes, in torch."""

import torch

from polyreach.deploy.export import ExportedPolicy
from polyreach.deploy.search_policy import SearchPolicy
from polyreach.networks.policy import RobotPolicy
from polyreach_description import Robot
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES, PolicyInputs


@torch.no_grad()
def outputs_in_torch(
    policy: RobotPolicy, robot: Robot, inputs: PolicyInputs[torch.Tensor]
) -> list[torch.Tensor]:
    """Of the exported policy, in the order of PolicyOutputs; with an empty memory."""
    if not policy.names_configurations:
        plain = ExportedPolicy(policy, robot)
        return list(plain(*(getattr(inputs, name) for name in plain.inputs)))
    search = SearchPolicy(robot, policy)
    count = len(inputs.joint_pos)
    inputs = inputs._replace(memory=torch.zeros(count, search.memory_size))
    if inputs.obstacles is None:
        none = torch.tensor(NO_OBSTACLE).expand(count, OBSTACLES, -1)
        inputs = inputs._replace(obstacles=none)
    outputs = search(*(getattr(inputs, name) for name in search.inputs))
    return list(outputs[: len(search.policy_outputs)])
