"""The tensors of a policy file: names, shapes, units and meanings.

To add a tensor, add a field to PolicyInputs or PolicyOutputs, compute or use it in the graph
(ExportedPolicy), and set or use it where the policy is called. A field whose default is None is
optional: files without it stay valid, and an optional input that the caller leaves out is fed with
its `fill`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    get_args,
    get_type_hints,
)

Array = TypeVar("Array")  # of NumPy or torch
Dimension = Literal["joints", "effectors", "memory"]
MAX_MEMORY = 2**16  # numbers that a policy keeps from one period to the next
OBSTACLES = 8  # that a policy is told of, the nearest ones
NO_OBSTACLE = (0.0, 0.0, -1e3, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)  # far from every robot


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of 32-bit floats: its dimensions after the batch, its unit and its meaning.

    fill: the last dimension of an input that the caller leaves out; one number stands for all.
    """

    dimensions: tuple[Dimension | int, ...]
    unit: str
    meaning: str
    fill: tuple[float, ...] = (0.0,)

    def shape(self, joints: int, effectors: int, memory: int = 0) -> tuple[int, ...]:
        """The dimensions after the batch of a robot with so many joints and effectors, for a policy
        with so many numbers of memory.
        """
        sizes = {"joints": joints, "effectors": effectors, "memory": memory}
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.dimensions)


class PolicyInputs(NamedTuple, Generic[Array]):
    """The inputs of a policy, in the order of the file."""

    joint_pos: Annotated[Array, TensorSpec(("joints",), "rad or m", "joint positions")]
    goals: Annotated[Array, TensorSpec(("effectors", 3), "m", "goal positions in the base frame")]
    active: Annotated[Array, TensorSpec(("effectors",), "0 or 1", "1: the effector has a goal")]
    previous_joint_vel: Annotated[
        Array | None,
        TensorSpec(("joints",), "rad/s or m/s", "command of the period before, after all limits"),
    ] = None
    goal_orientations: Annotated[
        Array | None,
        TensorSpec(
            ("effectors", 4),
            "unit quaternion x y z w",
            "goal orientations in the base frame",
            fill=(0.0, 0.0, 0.0, 1.0),
        ),
    ] = None
    oriented: Annotated[
        Array | None,
        TensorSpec(("effectors",), "0 or 1", "1: the goal of the effector has an orientation"),
    ] = None
    obstacles: Annotated[
        Array | None,
        TensorSpec(
            (OBSTACLES, len(NO_OBSTACLE)),
            "m",
            "the nearest obstacles in the base frame, as rounded boxes: position of the middle, "
            "unit quaternion x y z w, half sides, and the radius that is added to them",
            fill=NO_OBSTACLE,
        ),
    ] = None
    memory: Annotated[
        Array | None,
        TensorSpec(("memory",), "", "next_memory of the period before; zeros at the start"),
    ] = None

    def map(self, function: Callable[[Array], Array]) -> Self:
        """The same with `function` applied to every tensor that is not None."""
        parts = self._asdict().items()
        return type(self)(**{name: function(part) for name, part in parts if part is not None})


class PolicyOutputs(NamedTuple, Generic[Array]):
    """The outputs of a policy, in the order of the file."""

    joint_vel: Annotated[
        Array, TensorSpec(("joints",), "rad/s or m/s", "joint velocities within the limits")
    ]
    effector_pos: Annotated[
        Array, TensorSpec(("effectors", 3), "m", "effector positions in the base frame")
    ]
    effector_orientation: Annotated[
        Array | None,
        TensorSpec(
            ("effectors", 4), "unit quaternion x y z w", "effector orientations in the base frame"
        ),
    ] = None
    next_memory: Annotated[
        Array | None, TensorSpec(("memory",), "", "memory of the next period")
    ] = None


def _specs(tensors: type[tuple[Any, ...]]) -> dict[str, TensorSpec]:
    hints = get_type_hints(tensors, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


INPUTS = _specs(PolicyInputs)
OUTPUTS = _specs(PolicyOutputs)
OPTIONAL = {*PolicyInputs._field_defaults, *PolicyOutputs._field_defaults}
REQUIRED_INPUTS = tuple(name for name in INPUTS if name not in OPTIONAL)
ORIENTED_INPUTS = ("goal_orientations", "oriented")


def tensors_of_file(table: Mapping[str, TensorSpec], names: Collection[str]) -> list[str]:
    """The tensors of INPUTS or OUTPUTS that a file with the tensors `names` has, or must have."""
    return [name for name in table if name in names or name not in OPTIONAL]
