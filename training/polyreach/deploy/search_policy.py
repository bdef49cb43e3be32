"""A policy that names configurations, with the search around it, as it is exported."""

import torch
from torch import Tensor, nn

from polyreach.deploy.branches import Decision
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.choices import Choice
from polyreach.robot.configuration_search import CANDIDATES, ConfigurationSearch
from polyreach.robot.features import Observation
from polyreach.robot.goals import quaternions
from polyreach.robot.obstacle_clearance import are_none, read_obstacles
from polyreach_description import Robot
from polyreach_description.policy_tensors import (
    INPUTS,
    ORIENTED_INPUTS,
    REQUIRED_INPUTS,
    PolicyOutputs,
    tensors_of_file,
)

SPREAD = 0.5  # half width of the box, in shares of half a range, around a single configuration


def choice_names(kind: str) -> tuple[str, ...]:
    """Names of the tensors of a Choice in a graph."""
    return tuple(f"{kind}_{part}" for part in Choice._fields)


class SearchPolicy(nn.Module):
    """Names configurations where a search asks for them; without a policy, the search spreads them
    evenly over the joints' ranges.

    `decisions` are the values between which a graph decides (see polyreach.deploy.branches): the
    target is refined and another one searched only where needed, and distances of obstacles, too.
    """

    decisions = (
        Decision("all_settled", ("old_target", "old_settled"), ("new_target", "new_settled")),
        *(Decision("no_obstacles", (f"free_{way}",), (f"hit_{way}",)) for way in range(4)),
        Decision("bends", choice_names("bent"), choice_names("straight"), choice_names("found")),
        Decision("all_stay", choice_names("kept"), choice_names("chosen")),
    )

    def __init__(self, robot: Robot, policy: RobotPolicy | None) -> None:
        super().__init__()
        self.search = ConfigurationSearch(robot)
        self.policy = policy
        names = {*REQUIRED_INPUTS, "previous_joint_vel", "obstacles", "memory"}
        if robot.oriented.any():
            names |= {*ORIENTED_INPUTS}
        self.inputs = tuple(tensors_of_file(INPUTS, names))
        self.oriented = bool(robot.oriented.any())
        offsets = SPREAD * self.search.evenly(torch.arange(1, CANDIDATES)[:, None])
        self.register_buffer("offsets", torch.cat([torch.zeros_like(offsets[:1]), offsets]))

    offsets: Tensor

    @property
    def memory_size(self) -> int:
        """Numbers that are kept from one period to the next."""
        return self.search.memory_size

    def named(self, parts: Observation) -> Tensor:
        """K configurations (B, K, nu) [rad or m]."""
        if self.policy is None:
            return self.search.spread(0.0 * parts.joint_pos[:, :1])
        features, _ = self.policy.features.compute(parts)
        places = self.policy.configurations(features, parts.active)
        if places.shape[1] == 1:
            places = (places + self.offsets).clamp(-1.0, 1.0)
        return self.search.refinement.joint_pos(places)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The values of `outputs` for tensors of `inputs`, each (B, ...)."""
        parts = Observation(**dict(zip(self.inputs, tensors, strict=True)))
        search, joint_pos = self.search, parts.joint_pos
        assert parts.memory is not None and parts.previous_joint_vel is not None
        assert parts.obstacles is not None
        goals, obstacles = search.errors.goals_of(parts), read_obstacles(parts.obstacles)
        track = search.track(joint_pos, goals, obstacles, parts.memory)
        around = joint_pos, goals, obstacles, track
        straight, straight_ways = search.search_straight(*around, lambda: self.named(parts))
        bent, bent_ways = search.search_bent(*around)
        found = straight.where(track.bends, bent)
        choice = found.where(track.stays, track.kept)
        velocity, memory = search.move(joint_pos, parts.previous_joint_vel, goals, track, choice)
        outputs = [velocity, search.kinematics.effectors_of(track.frames)]
        if self.oriented:
            outputs.append(quaternions(search.kinematics.rotations_of(track.frames)))
        values = {
            "no_obstacles": are_none(parts.obstacles),
            "all_settled": (track.unrefined.settled > 0.5).all(),
            **dict(zip(self.decisions[0].instead, track.unrefined, strict=True)),
            **dict(zip(self.decisions[0].values, track.refined, strict=True)),
            "all_stay": track.stays.all(),
            "bends": track.bends,
        }
        for kind, made in {
            "bent": bent, "straight": straight, "found": found, "kept": track.kept, "chosen": choice
        }.items():  # fmt: skip
            values |= dict(zip(choice_names(kind), made, strict=True))
        for number, way in enumerate([track.ways, *straight_ways, *bent_ways]):
            values |= {f"free_{number}": way.free, f"hit_{number}": way.hit}
        return (*outputs, memory, *(values[name] for name in self.decided))

    @property
    def decided(self) -> tuple[str, ...]:
        """Names of the values of `decisions`, each once."""
        names = (name for decision in self.decisions for name in decision.names)
        return tuple(dict.fromkeys(names))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what forward returns: outputs of the policy, then values of the decision."""
        orientation = ("effector_orientation",) if self.oriented else ()
        names = ("joint_vel", "effector_pos", *orientation, "next_memory")
        return (*names, *self.decided)

    @property
    def policy_outputs(self) -> tuple[str, ...]:
        """Those of PolicyOutputs."""
        return tuple(name for name in self.outputs if name in PolicyOutputs._fields)
