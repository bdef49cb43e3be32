"""Joints that follow other joints: mimic joints of a URDF, joint equalities of an MJCF, and
`coupled_joints` of a robot.yaml.

A follower's position is ratio * that of its leader + offset. What follows a controlled joint moves
with it; what follows a held joint is held.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description.config_file import Coupling, RobotError, RobotFile
from polyreach_description.urdf import read_urdf

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MovedJoints:
    """The n joints that nu controlled joints move: these and their followers, in the model's order.

    ids, qpos_adr, dof_adr: (n,). ratios (n, nu) and offsets (n,) [rad or m]: the positions are
    ratios @ joint_pos + offsets. controlled: (nu,) where the controlled joints are among them.
    """

    ids: NDArray[np.int64]
    qpos_adr: NDArray[np.int64]
    dof_adr: NDArray[np.int64]
    ratios: Vector
    offsets: Vector
    controlled: NDArray[np.int64]

    @property
    def followers(self) -> list[int]:
        """Places of the followers among the n joints."""
        return sorted(set(range(len(self.ids))) - set(self.controlled.tolist()))

    def positions(self, joint_pos: ArrayLike) -> Vector:
        """Positions (..., n) for controlled joints at joint_pos (..., nu) [rad or m]."""
        joint_pos = np.asarray(joint_pos, dtype=np.float64)
        if len(self.ids) == len(self.controlled):
            return joint_pos
        return joint_pos @ self.ratios.T + self.offsets

    def position_limits(self, model: mujoco.MjModel) -> Vector:
        """Limits (nu, 2) [rad or m] of the controlled joints, also by the ranges of followers.

        Raises RobotError if these leave no range.
        """
        limits = np.array(model.jnt_range[self.ids[self.controlled]])
        for place in self.followers:
            column = int(np.abs(self.ratios[place]).argmax())
            ratio = self.ratios[place, column]
            if not model.jnt_limited[self.ids[place]] or not ratio:
                continue
            ends = np.sort((model.jnt_range[self.ids[place]] - self.offsets[place]) / ratio)
            low, high = max(limits[column, 0], ends[0]), min(limits[column, 1], ends[1])
            if not low < high:
                follower, leader = (
                    model.joint(int(self.ids[index])).name
                    for index in (place, self.controlled[column])
                )
                raise RobotError(
                    f"joint '{leader}' cannot move within the range of its follower '{follower}': "
                    "check ratio and offset"
                )
            limits[column] = low, high
        return limits


def read_couplings(file: RobotFile, model: mujoco.MjModel) -> dict[str, Coupling]:
    """Followers by name, each with a leader that follows no other joint.

    Raises RobotError for unknown joints, joints that follow two joints or each other, and for a
    controlled joint that follows another one.
    """
    direct = _of_model(file, model)
    for name in file.coupled_joints:
        if name in direct:
            raise RobotError(
                f"joint '{name}' of 'coupled_joints' follows a joint in the model already"
            )
    direct |= file.coupled_joints
    _check_names(direct, model)
    couplings = {name: _resolved(name, direct) for name in direct}
    for name, coupling in couplings.items():
        if name in file.joints:
            raise RobotError(
                f"joint '{name}' follows joint '{coupling.leader}' (mimic, equality or "
                "coupled_joints) and cannot be controlled: remove it from 'joints'"
            )
        if not coupling.is_linear and coupling.leader in file.joints:
            raise RobotError(
                f"joint '{name}' follows the controlled joint '{coupling.leader}' by a polynomial "
                "of a degree above 1, which is not supported (polycoef: offset and ratio only)"
            )
    return {name: coupling for name, coupling in couplings.items() if coupling.is_linear}


def read_moved_joints(
    model: mujoco.MjModel, joint_ids: NDArray[np.int64], couplings: Mapping[str, Coupling]
) -> MovedJoints:
    """The controlled joints joint_ids (nu,) and the joints that follow them."""
    columns = {model.joint(int(joint)).name: column for column, joint in enumerate(joint_ids)}
    rows = {int(joint): (column, 1.0, 0.0) for column, joint in enumerate(joint_ids)}
    for name, coupling in couplings.items():
        if coupling.leader in columns:
            place = columns[coupling.leader]
            rows[model.joint(name).id] = place, coupling.ratio, coupling.offset
    ids = np.array(sorted(rows), dtype=np.int64)
    ratios, offsets = np.zeros((len(ids), len(joint_ids))), np.zeros(len(ids))
    for row, joint in enumerate(ids):
        column, ratio, offset = rows[int(joint)]
        ratios[row, column], offsets[row] = ratio, offset
    return MovedJoints(
        ids,
        model.jnt_qposadr[ids].astype(np.int64),
        model.jnt_dofadr[ids].astype(np.int64),
        ratios,
        offsets,
        np.searchsorted(ids, joint_ids),
    )


def _of_model(file: RobotFile, model: mujoco.MjModel) -> dict[str, Coupling]:
    couplings: dict[str, Coupling] = {}
    for number in np.flatnonzero(model.eq_type == mujoco.mjtEq.mjEQ_JOINT):
        follower, leader = int(model.eq_obj1id[number]), int(model.eq_obj2id[number])
        if not model.eq_active0[number] or leader < 0:
            continue
        # y - y0 = a0 + a1 (x - x0) + ..., with the positions of the model's qpos0
        a0, a1, *higher = model.eq_data[number, :5].tolist()
        y0, x0 = model.qpos0[model.jnt_qposadr[[follower, leader]]].tolist()
        name = model.joint(follower).name
        couplings[name] = Coupling(model.joint(leader).name, a1, y0 + a0 - a1 * x0, not any(higher))
    root = read_urdf(file.model)
    movable = {model.joint(joint).name for joint in range(model.njnt)}
    for joint in () if root is None else root.iterfind("joint"):
        mimic = joint.find("mimic")
        if mimic is not None and joint.get("name") in movable:
            ratio, offset = (
                _decimal(mimic.get(key, default), f"{key} of mimic joint '{joint.get('name')}'")
                for key, default in (("multiplier", "1"), ("offset", "0"))
            )
            couplings[joint.get("name") or ""] = Coupling(mimic.get("joint") or "", ratio, offset)
    return couplings


def _check_names(couplings: Mapping[str, Coupling], model: mujoco.MjModel) -> None:
    legal = dict.fromkeys(model.joint(joint).name for joint in range(model.njnt))
    for follower, coupling in couplings.items():
        for name in (follower, coupling.leader):
            if name not in legal:
                raise RobotError(
                    f"unknown joint '{name}' in the coupling of '{follower}' (the model has: "
                    f"{', '.join(legal)})"
                )


def _resolved(name: str, direct: Mapping[str, Coupling]) -> Coupling:
    """The coupling to the joint at the end of a chain of followers."""
    coupling, passed = direct[name], {name: None}  # in order
    while coupling.leader in direct:
        if coupling.leader in passed:
            raise RobotError(f"joints follow each other: {', '.join(passed)}")
        passed[coupling.leader] = None
        above = direct[coupling.leader]
        coupling = Coupling(
            above.leader,
            coupling.ratio * above.ratio,
            coupling.ratio * above.offset + coupling.offset,
            coupling.is_linear and above.is_linear,
        )
    return coupling


def _decimal(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise RobotError(f"{what} is '{text}', but must be a number")
    return value
