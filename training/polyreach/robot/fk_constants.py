"""The constants of a robot's forward kinematics: segments of its tree, linear in a few waves."""

import numpy as np
from numpy.typing import NDArray

from polyreach_description import KinematicTree

PARALLEL = 1e-9  # sine of the angle below which two axes are parallel

Array = NDArray[np.float64]


class Segments:
    """Segments of a tree as constants of ForwardKinematics; elements are joints, then effectors.

    sums (2 nu, nu), phase (2 nu): angles whose sines are taken, the second half a quarter turn
    ahead. frames (16 N, 2 nu + slides), rest (16 N): from them to the segments' transposed
    matrices.
    """

    def __init__(self, tree: KinematicTree) -> None:
        joints, effectors = len(tree.parent), len(tree.effector)
        slides = np.flatnonzero(tree.is_slide).tolist()
        basis = 2 * joints + len(slides) + 1  # sines, cosines, slides, one
        turns = np.zeros((joints, joints))
        directions = tree.axis.copy()
        # matrices of every segment up to an element, and what precedes the segment
        segment = np.zeros((joints + effectors, 4, 4, basis))
        self.before = np.full(joints + effectors, -1)
        for j, parent in enumerate(tree.parent):
            axis, anchor = tree.axis[j], tree.anchor[j]
            aligned = parent >= 0 and not (tree.is_slide[j] or tree.is_slide[parent])
            aligned = aligned and bool(np.linalg.norm(np.cross(axis, tree.axis[parent])) < PARALLEL)
            self.before[j] = self.before[parent] if aligned else parent
            turn = np.zeros((4, 4, basis))  # of the run up to here: wave of its sum
            turn[3, 3, -1] = 1.0
            if tree.is_slide[j]:
                turn[:3, :3, -1] = np.eye(3)
                turn[:3, 3, 2 * joints + slides.index(j)] = axis
                turn[:3, 3, -1] = -tree.reference[j] * axis
                segment[j] = turn
                continue
            # a run turns about its first joint's axis
            direction = directions[j] = directions[parent] if aligned else axis
            turns[j] = turns[parent] if aligned else 0.0
            turns[j, j] = float(np.sign(direction @ axis))
            skew = np.cross(direction, np.eye(3)).T  # [w] v = w x v
            # Rodrigues: exp([w] phi) = (I + [w]^2) + sin(phi) [w] - cos(phi) [w]^2
            turn[:3, :3, -1] = np.eye(3) + skew @ skew
            turn[:3, :3, j] = skew
            turn[:3, :3, joints + j] = -skew @ skew
            above = segment[parent].copy() if aligned else np.zeros((4, 4, basis))
            if not aligned:
                above[..., -1] = np.eye(4)
            # a turn about a line through the anchor: x -> R_above (R (x - p) + p) + t_above
            turn[:3, 3] = above[:3, 3] + np.einsum(
                "ijb,j->ib", above[:3, :3] - turn[:3, :3], anchor
            )
            segment[j] = turn
        for e, parent in enumerate(tree.effector_parent):
            self.before[joints + e] = self.before[parent] if parent >= 0 else -1
            if parent >= 0:
                segment[joints + e] = segment[parent]
            else:
                segment[joints + e, :, :, -1] = np.eye(4)
        placed = [frame_of(tree.axis[j], tree.anchor[j]) for j in range(joints)]
        placed += list(_matrices(tree.effector_rotation, tree.effector))
        placed.append(np.eye(4))
        local = [
            np.einsum("ij,jkb,kl->ilb", np.linalg.inv(placed[before]), matrix, placed[index])
            for index, (before, matrix) in enumerate(zip(self.before, segment, strict=True))
        ]
        if (self.before >= 0).any():  # the frame of the base, where all products end
            base = np.zeros((4, 4, basis))
            base[..., -1] = np.eye(4)
            local.append(base)
        matrices = np.stack(local).transpose(0, 2, 1, 3).reshape(-1, basis)
        self.frames, self.rest = matrices[:, :-1], matrices[:, -1]
        self.sums = np.concatenate([turns, turns])
        shift = -turns @ tree.reference
        self.phase = np.concatenate([shift, shift + np.pi / 2])

    def rounds(self) -> list[list[int]]:
        """For each round of products, the element that precedes each element; the distance doubles.

        The base is the last element and precedes itself.
        """
        base = len(self.before)
        above = np.append(np.where(self.before < 0, base, self.before), base)
        rounds = []
        while (above != base).any():
            rounds.append(above.tolist())
            above = above[above]
        return rounds


def frame_of(axis: Array, origin: Array) -> Array:
    """Homogeneous matrix (4, 4) of a frame with that z axis [unit vector] and origin [m]."""
    matrix = np.eye(4)
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    matrix[:3, 0] = across / np.linalg.norm(across)
    matrix[:3, 1] = np.cross(axis, matrix[:3, 0])
    matrix[:3, 2], matrix[:3, 3] = axis, origin
    return matrix


def _matrices(rotation: Array, origin: Array) -> Array:
    """Homogeneous matrices (N, 4, 4) of rotations (N, 3, 3) and origins (N, 3) [m]."""
    matrices = np.tile(np.eye(4), (len(origin), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = rotation, origin
    return matrices


def moving_axes(tree: KinematicTree) -> list[int]:
    """The base frame's axes along which joints move effectors: all three, or two in a plane."""
    turns, slides = tree.axis[~tree.is_slide], tree.axis[tree.is_slide]
    return [
        i
        for i in range(3)
        if (np.abs(np.delete(turns, i, axis=1)) > PARALLEL).any()
        or (np.abs(slides[:, i]) > PARALLEL).any()
    ]
