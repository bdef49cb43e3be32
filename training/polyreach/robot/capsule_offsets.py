"""Distances of capsules beside exact ones, and offsets for what the capsules miss."""

from dataclasses import replace

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from polyreach.robot.self_clearance import Capsules, SelfClearance
from polyreach_description import Robot
from polyreach_description.geom_pairs import BoxDistances, Pair

BATCH = 250  # configurations, measured at once
WIDTHS = (0.5, 2.0, 5.0)  # shares beyond the stop distance, within which offsets are measured
SIGHT = 1 + WIDTHS[-1]  # stop distances, within which exact distances are known
ENOUGH = 20  # configurations within a width
COVERED = (0.97, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # shares of the measured distances that the
# fit does not overestimate, the best first
MISTAKEN = 0.03  # share of all configurations

Array = NDArray[np.float64]


def with_offsets(
    robot: Robot,
    capsules: Capsules,
    pair_of: NDArray[np.int64],
    inexact: NDArray[np.bool_],
    sample: Array,
    exact: Array,
) -> tuple[Capsules, Array]:
    """Capsules with offsets, measured in the configurations (N, nu) [rad or m], and the distances
    (N, P) [m] of their pairs there.

    pair_of (P,): the pair of bodies, of G, to which each pair of capsules belongs. inexact (G,):
    whether capsules may differ from the bodies. exact (N, G): see exact_distances.
    """
    fitted, stop = _fitted(robot, capsules, sample), robot.stop_distance
    offset, nearest = np.zeros(len(pair_of)), np.zeros(exact.shape)
    for pair in range(exact.shape[1]):
        members = pair_of == pair
        nearest[:, pair] = fitted[:, members].min(axis=1)
        if inexact[pair]:
            offset[members] = _offset(nearest[:, pair], exact[:, pair], stop)
            nearest[:, pair] -= offset[members][0]
    called_near, least = nearest.min(axis=1) < stop, exact.min(axis=1)
    missed = (least < stop) & ~called_near
    mistaken = (least >= stop * (1 + WIDTHS[0])) & called_near
    misjudged = float((missed | mistaken).mean())
    return replace(capsules, offset=offset, misjudged=misjudged), fitted - offset


def _fitted(robot: Robot, capsules: Capsules, sample: Array) -> Array:
    """Distances (N, P) [m] of the capsules in configurations (N, nu)."""
    clearance = SelfClearance(robot, capsules)
    batches = torch.tensor(sample, dtype=torch.float32).split(BATCH)
    with torch.no_grad():
        return torch.cat([clearance.at(batch) for batch in batches]).double().numpy()


def exact_distances(
    robot: Robot,
    geom_pairs: list[Pair],
    group_of: dict[int, int],
    group_pairs: list[Pair],
    sample: Array,
) -> Array:
    """Distances (N, G) [m] of pairs of groups in configurations (N, nu); inf where they are farther
    than the greatest width, or where the geoms may come nearer than others: see no_collision.
    """
    reach = robot.stop_distance * SIGHT
    model = robot.proximity_model(reach)
    data = robot.data_at_home(model)
    boxes = BoxDistances(model, geom_pairs)
    is_box = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
    column_of = {
        pair: group_pairs.index((group_of[pair[0]], group_of[pair[1]])) for pair in geom_pairs
    }
    exact = np.full((len(sample), len(group_pairs)), np.inf)
    for row, joint_pos in zip(exact, sample, strict=True):
        robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        near = boxes.nearer_than(data, np.full(len(boxes.pairs), reach))
        contacts = zip(data.contact.geom.tolist(), data.contact.dist.tolist(), strict=True)
        near += [
            ((min(geoms), max(geoms)), distance)
            for geoms, distance in contacts
            if not is_box[geoms].all()
        ]
        for pair, distance in near:
            column = column_of.get(pair)
            if column is not None:
                row[column] = min(row[column], distance)
    return exact


def _offset(fitted: Array, exact: Array, stop_distance: float) -> float:
    """By how much distances (N,) of a fit overestimate exact ones, where these are near.

    Bodies beside each other are never far; where the fit is too coarse for them, the largest share
    of COVERED is taken with which it calls at most MISTAKEN of the clear configurations near.
    """
    for width in WIDTHS:
        near = exact < stop_distance * (1 + width)
        if near.sum() >= ENOUGH:
            break
    if not near.any():
        return 0.0
    over = fitted[near] - np.maximum(exact[near], stop_distance)
    border = stop_distance * (1 + WIDTHS[0])
    for covered in COVERED:
        offset = float(np.quantile(over, covered))
        mistaken = (exact >= border) & (fitted - offset < border)
        if mistaken.mean() <= MISTAKEN:
            break
    return offset
