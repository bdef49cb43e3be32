"""The kinematic tree of the controlled joints, read off a MuJoCo model as a product of
exponentials.

With every joint at its reference value, joint j has a screw: an anchor point and an axis. Moving
the joint by theta maps everything behind it by exp_j(theta): a rotation about that line, or a
translation along it. An effector is its reference position carried through exp of every joint above
it (Lynch & Park, Modern Robotics, section 4.1.1).
"""

import json
from dataclasses import dataclass
from hashlib import sha256

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.coupling import MovedJoints


@dataclass(frozen=True)
class KinematicTree:
    """Screws of n joints that nu controlled joints move, and reference positions of E effectors, in
    the base frame.

    parent: (n,) index of the nearest of these joints above, or -1; a parent comes before its child.
    is_slide: (n,) true for a slide joint. reference: (n,) joint value of the reference pose [rad or
    m]. anchor: (n, 3) a point on the joint's axis [m]. axis: (n, 3) unit vector. effector_parent:
    (E,) the last of these joints above the effector. effector: (E, 3) [m]. effector_rotation: (E,
    3, 3) rotation matrices; columns are the axes of the effector's site.

    coupling (n, nu), offset (n,) [rad or m]: for controlled joints at q, the joints are at coupling
    @ q + offset. controlled: (nu,) the screw of each controlled joint itself. Where no joint
    follows another one, n = nu, and these are the identity, zero, and 0 to nu - 1.
    joint_ids: (n,) in the model.
    """

    parent: NDArray[np.int64]
    is_slide: NDArray[np.bool_]
    reference: NDArray[np.float64]
    anchor: NDArray[np.float64]
    axis: NDArray[np.float64]
    effector_parent: NDArray[np.int64]
    effector: NDArray[np.float64]
    effector_rotation: NDArray[np.float64]
    coupling: NDArray[np.float64]
    offset: NDArray[np.float64]
    controlled: NDArray[np.int64]
    joint_ids: NDArray[np.int64]

    @property
    def is_coupled(self) -> bool:
        """Whether there are more screws than controlled joints."""
        return len(self.parent) > len(self.controlled)

    @property
    def action_sets(self) -> NDArray[np.bool_]:
        """(E, nu): true where joint j moves effector i, the paper's a_i (digrad-2018, sec. 4.1)."""
        return (self.screw_sets[:, :, None] & (self.coupling != 0.0)).any(axis=1)

    @property
    def screw_sets(self) -> NDArray[np.bool_]:
        """(E, n): true where a screw moves an effector."""
        sets = np.zeros((len(self.effector), len(self.parent)), dtype=bool)
        for effector, joint in enumerate(self.effector_parent):
            while joint >= 0:
                sets[effector, joint] = True
                joint = self.parent[joint]
        return sets

    def digest(self) -> str:
        """SHA-256 of what positions depend on, rounded to a micrometre or microradian."""
        left_out = {"effector_rotation", "controlled", "joint_ids"}
        if not self.is_coupled:  # these robots keep the digest of earlier versions
            left_out |= {"coupling", "offset"}
        numbers = {
            name: (np.round(np.asarray(value, dtype=np.float64), 6) + 0.0).tolist()
            for name, value in vars(self).items()
            if name not in left_out
        }
        return sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def read_tree(
    model: mujoco.MjModel,
    moved: MovedJoints,
    site_ids: NDArray[np.int64],
    base_body: int,
    qpos: NDArray[np.float64],
) -> KinematicTree:
    """Read the tree of the controlled joints, and of followers that move an effector, off `model`.

    qpos: (model.nq,) full configuration in which the other joints are held. The base body must not
    move with a moved joint.
    """
    carrying = {
        joint for body in model.site_bodyid[site_ids] for joint in joints_above(model, int(body))
    }
    controlled = moved.controlled.tolist()
    rows = [
        row for row, joint in enumerate(moved.ids) if row in controlled or int(joint) in carrying
    ]
    joint_ids = moved.ids[rows]
    order = {int(joint): index for index, joint in enumerate(joint_ids)}
    addresses = model.jnt_qposadr[joint_ids]
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    data.qpos[addresses] = model.qpos0[addresses]
    mujoco.mj_kinematics(model, data)
    rotation = data.xmat[base_body].reshape(3, 3)
    origin = data.xpos[base_body]

    def to_base(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points - origin) @ rotation

    parents = []
    for joint in joint_ids:
        above = [
            other for other in joints_above(model, int(model.jnt_bodyid[joint])) if other < joint
        ]
        parents.append(next((order[other] for other in above if other in order), -1))
    effector_parents = [
        next((order[joint] for joint in joints_above(model, int(body)) if joint in order), -1)
        for body in model.site_bodyid[site_ids]
    ]
    return KinematicTree(
        parent=np.array(parents, dtype=np.int64),
        is_slide=model.jnt_type[joint_ids] == mujoco.mjtJoint.mjJNT_SLIDE,
        reference=model.qpos0[addresses].copy(),
        anchor=to_base(data.xanchor[joint_ids]),
        axis=data.xaxis[joint_ids] @ rotation,
        effector_parent=np.array(effector_parents, dtype=np.int64),
        effector=to_base(data.site_xpos[site_ids]),
        effector_rotation=rotation.T @ data.site_xmat[site_ids].reshape(-1, 3, 3),
        coupling=moved.ratios[rows],
        offset=moved.offsets[rows],
        controlled=np.searchsorted(rows, controlled),
        joint_ids=joint_ids.copy(),
    )


def joints_above(model: mujoco.MjModel, body: int) -> list[int]:
    """All joints that move `body`, nearest first (the joints of one body act in their order)."""
    joints: list[int] = []
    while body > 0:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        joints.extend(reversed(range(first, first + count)) if count else ())
        body = int(model.body_parentid[body])
    return joints


def last_movers(model: mujoco.MjModel, joint_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The joint among joint_ids that moves each body last, or -1; (model.nbody,)."""
    ids = set(joint_ids.tolist())
    last = np.full(model.nbody, -1, dtype=np.int64)
    for body in range(1, model.nbody):  # a parent comes before its children
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        joints = [joint for joint in range(first, first + count) if joint in ids]
        last[body] = joints[-1] if joints else last[model.body_parentid[body]]
    return last
