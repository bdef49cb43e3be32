"""From distances that decrease too fast to factors of the joint velocities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyreach_nodes.control.clearance import Clearance

NEGLIGIBLE = 1e-9  # [m] of approach
CREEP = 0.1  # least factor of joints that continue while others stop
SWEEPS = 8  # over the limits, to satisfy all of them

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Key = tuple[int, int]


class Closing(NamedTuple):
    """Two geoms, or an effector and a wall of the workspace, that approach each other.

    key: pair of geoms, or effector and the wall's number, which is negative. clearance: of the
    geoms; None for a wall. distance: now [m]. room: distance less the stop distance, and less what
    the motion of an obstacle may take away [m]. width: slow less stop distance [m]. approach:
    decrease of the distance on the whole way [m], by the joints alone. span: room above which it
    is not slowed [m].
    """

    key: Key
    clearance: Clearance | None
    distance: float
    room: float
    width: float
    approach: float
    span: float

    def factor(self, used: float = 0.0) -> float:
        """Factor in [0, 1] of the approach, with a share of the width in use by other motions."""
        room = max(0.0, self.room - used * self.width)
        return min(1.0, room / self.span)


@dataclass(frozen=True)
class Limit:
    """A closing that is too fast. factor: of all joints, with which it would not be.

    joints: (nu,) that change this distance. effect: (nu,) [m] change of the distance by each
    joint's part of the way.
    """

    closing: Closing
    factor: float
    joints: Mask
    effect: Vector

    @classmethod
    def of_geoms(
        cls, closing: Closing, factor: float, clearance: Clearance, way: Vector
    ) -> "Limit":
        """The limit of two geoms; where the gradient has the other sign, all joints between them
        count.
        """
        joints = clearance.joints_between(closing.key)
        effect = clearance.gradient(closing.key) * way
        if effect.sum() >= -NEGLIGIBLE:
            effect = -np.abs(way) * joints
        return cls(closing, factor, joints, effect)

    @classmethod
    def of_wall(cls, closing: Closing, factor: float, joints: Mask, way: Vector) -> "Limit":
        """The limit of an effector that `joints` (nu,) move, and a wall."""
        return cls(closing, factor, joints, -np.abs(way) * joints)


class JointFactors(NamedTuple):
    """Factors (nu,) with which all limits are kept, if distances changed linearly.

    together: one factor for the joints of a limit. alone: only joints whose own motion decreases a
    limited distance are slowed. approaches: of the closings, by key, that the factors leave [m].
    """

    together: Vector
    alone: Vector
    approaches: dict[Key, float]


def joint_factors(limits: Sequence[Limit], speed: Vector) -> JointFactors:
    """speed: (nu,) shares of the joints' greatest velocities that are commanded."""
    calm = min(limit.closing.room / limit.closing.width for limit in limits)
    calm = min(1.0, max(CREEP, calm))
    others = calm * speed
    shares = [
        limit.closing.factor(float(others[~limit.joints].max(initial=0.0))) for limit in limits
    ]
    together = np.full(len(speed), calm)
    for limit, share in zip(limits, shares, strict=True):
        together[limit.joints] = np.minimum(together[limit.joints], share)
    approaches = {
        limit.closing.key: share * limit.closing.approach
        for limit, share in zip(limits, shares, strict=True)
    }
    return JointFactors(together, np.maximum(together, _alone(limits, shares, calm)), approaches)


def _alone(limits: Sequence[Limit], shares: Sequence[float], calm: float) -> Vector:
    """Factors (nu,) that slow only joints whose own motion decreases a limited distance."""
    factors = np.full(len(limits[0].effect), calm)
    for _ in range(SWEEPS):
        obeyed = True
        for limit, share in zip(limits, shares, strict=True):
            effect = factors * limit.effect
            allowed = -share * float(limit.effect.sum())
            if -effect.sum() <= allowed + NEGLIGIBLE:
                continue
            obeyed, nearer = False, effect < 0.0
            closer = -float(effect[nearer].sum())
            apart = float(effect.sum()) + closer
            # apart - k closer = -allowed
            factors[nearer] *= max(0.0, (apart + allowed) / closer)
        if obeyed:
            break
    return factors
