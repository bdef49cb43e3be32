"""Where the inputs of a policy are in a flat observation."""

import pytest
import torch

from polyreach.robot.features import (
    FEATURES,
    FeatureSet,
    Observation,
    ObservationLayout,
    largest_action,
)
from polyreach_description import load_robot
from polyreach_description.policy_tensors import INPUTS

ROBOT = load_robot("planar8")  # 8 joints, 3 effectors


def test_the_layout_is_that_of_the_contract() -> None:
    plain = ObservationLayout.of(ROBOT)
    assert plain.inputs == ("joint_pos", "goals", "active") and plain.size == 8 + 9 + 3
    everything = ObservationLayout.of(ROBOT, INPUTS)
    # the order of the contract, whatever that of the names; the memory stays with the policy
    assert everything == ObservationLayout.of(ROBOT, list(reversed(INPUTS)))
    assert everything.inputs == (
        *plain.inputs,
        "previous_joint_vel",
        "goal_orientations",
        "oriented",
        "obstacles",
    )
    assert everything.shapes == [(8,), (3, 3), (3,), (8,), (3, 4), (3,), (8, 11)]
    assert everything.size == 20 + 8 + 12 + 3 + 88


def test_flat_and_split_by_hand() -> None:
    layout = ObservationLayout.of(ROBOT, ["previous_joint_vel"])
    obs = torch.arange(2.0 * 28).reshape(2, 28)
    parts = layout.split(obs)
    assert parts.joint_pos[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert parts.goals[0].tolist() == [[8, 9, 10], [11, 12, 13], [14, 15, 16]]
    assert parts.active[1].tolist() == [45, 46, 47]
    assert parts.previous_joint_vel is not None
    assert parts.previous_joint_vel[0].tolist() == [20, 21, 22, 23, 24, 25, 26, 27]
    assert parts.goal_orientations is None
    assert torch.equal(layout.flat(parts), obs)
    # what the layout does not have is left out
    assert torch.equal(ObservationLayout.of(ROBOT).flat(parts), obs[:, :20])


@pytest.mark.parametrize("name", ["paper", "kinematic"])
def test_features_contain_the_command_before_where_it_is_observed(name: FeatureSet) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = Observation(
        torch.rand(4, 8, generator=generator),
        torch.rand(4, 3, 3, generator=generator),
        torch.ones(4, 3),
        torch.rand(4, 8, generator=generator),
    )
    assert parts.previous_joint_vel is not None
    plain, more = FEATURES[name](ROBOT), FEATURES[name](ROBOT, inputs=["previous_joint_vel"])
    assert more.size == plain.size + 8
    with_velocity, _ = more.compute(parts)
    assert with_velocity.shape == (4, more.size)
    share = parts.previous_joint_vel / torch.tensor(ROBOT.joint_vel_limits).float()
    start = next(
        at for at in range(plain.size + 1) if torch.equal(with_velocity[:, at : at + 8], share)
    )
    rest = torch.cat([with_velocity[:, :start], with_velocity[:, start + 8 :]], dim=1)
    # planar8 reaches its velocity limits in time: the units of the other features are the same
    assert (largest_action(ROBOT, ["previous_joint_vel"]) == ROBOT.action_speeds).all()
    assert torch.equal(rest, plain.compute(parts)[0])
