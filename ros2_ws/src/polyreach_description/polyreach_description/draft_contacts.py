"""What a draft of a robot.yaml samples: links that are always in contact, and a home without any.

As MoveIt's setup assistant does, configurations are drawn at random within the limits, and a pair
that is in contact in at least ALWAYS of them is left out of the collision check.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import RobotError
from polyreach_description.geom_pairs import BoxDistances, moving_pairs
from polyreach_description.home import read_home
from polyreach_description.robot import Robot
from polyreach_description.self_collision import LinkPair

SAMPLES = 300  # random configurations
ALWAYS = 0.95  # share of them in which a pair that is always in contact is
OFTEN = 0.5  # share of them in which a pair is worth a look
CENTRAL = 0.6  # share of every range, about its middle, from which a home is drawn
ROUNDED = 1e-6  # [m]
HOME_KEYFRAMES = ("home", "stand", "neutral", "rest", "ready", "default")
Vector = NDArray[np.float64]


class ContactSampler:
    """Pairs of a robot's links that are nearer to each other than a distance [m], or touch."""

    def __init__(self, robot: Robot, distance: float) -> None:
        self._model = robot.proximity_model(distance)
        self._data = mujoco.MjData(self._model)
        self._distance = distance
        self._boxes = BoxDistances(self._model, moving_pairs(robot))
        self._limits = np.full(len(self._boxes.pairs), distance)
        self._movers = robot.geom_movers

    def pairs(self, qpos: Vector) -> tuple[set[LinkPair], set[LinkPair]]:
        """Pairs of links at qpos (model.nq,): those that are nearer than the distance (and can move
        relative to each other, or touch), and those of them that touch.
        """
        data, movers = self._data, self._movers
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_collision(self._model, data)
        near, touching = [], []
        contacts = zip(data.contact.geom.tolist(), data.contact.dist.tolist(), strict=True)
        for (first, second), gap in contacts:
            is_fixed = movers[first] == movers[second]  # to each other: a gap of 0 is only rounded
            if gap <= (ROUNDED if is_fixed else 0.0):
                touching.append((first, second))
            elif gap < self._distance and not is_fixed:
                near.append((first, second))
        near += [pair for pair, _ in self._boxes.nearer_than(data, self._limits)]
        return self._links([*near, *touching]), self._links(touching)

    def _links(self, pairs: list[tuple[int, int]]) -> set[LinkPair]:
        model = self._model
        bodies = {tuple(sorted(model.geom_bodyid[list(pair)].tolist())) for pair in pairs}
        return {(model.body(first).name, model.body(second).name) for first, second in bodies}


def sample_contacts(robot: Robot) -> tuple[list[set[LinkPair]], list[set[LinkPair]]]:
    """The pairs of links that are nearer than the stop distance, and those that touch, in each of
    SAMPLES random configurations.
    """
    sampler = ContactSampler(robot, robot.stop_distance)
    low, high = robot.joint_pos_limits.T
    sample = np.random.default_rng(0).uniform(low, high, (SAMPLES, len(low)))
    pairs = [sampler.pairs(robot.qpos(joint_pos)) for joint_pos in sample]
    return [near for near, _ in pairs], [touching for _, touching in pairs]


def shares(samples: list[set[LinkPair]]) -> dict[LinkPair, float]:
    """The share of the samples that have a pair, by pair, largest first."""
    counts = Counter(pair for pairs in samples for pair in pairs)
    return {pair: count / len(samples) for pair, count in counts.most_common()}


def choose_home(robot: Robot) -> tuple[Vector | None, str, str]:
    """A home: joint_pos (nu,) [rad or m] or None, the keyframe it is from or '', and how it was
    chosen.

    The first of these in which no two links are within the slow distance, or else in which none
    touch: a keyframe that is named as a home, the middle of all ranges, and the one of SAMPLES
    random configurations about it that is nearest to it.
    """
    for distance in (robot.slow_distance, 0.0):
        sampler = ContactSampler(robot, distance)
        for joint_pos, keyframe, text in _homes(robot):
            qpos = _keyframe_qpos(robot, keyframe) if keyframe else robot.qpos(joint_pos)
            if not sampler.pairs(qpos)[0]:
                return (None if keyframe else joint_pos), keyframe, text
    return None, "", "none found in which nothing touches: choose one"


def _homes(robot: Robot) -> Iterator[tuple[Vector, str, str]]:
    model = robot.model
    keys = [model.key(number).name for number in range(model.nkey)]
    for word in HOME_KEYFRAMES:
        for name in keys:
            if word in name.lower() and name.isprintable():
                yield robot.home, name, f"keyframe '{name}' of the model"
    low, high = robot.joint_pos_limits.T
    middle = (low + high) / 2.0
    yield middle, "", "the middle of the ranges"
    part = np.random.default_rng(2).uniform(-CENTRAL, CENTRAL, (SAMPLES, len(low)))
    for offset in part[np.linalg.norm(part, axis=1).argsort()]:
        text = "near the middle of the ranges, where links would touch or nearly touch"
        yield middle + offset * (high - low) / 2.0, "", text


def _keyframe_qpos(robot: Robot, keyframe: str) -> Vector:
    file = replace(robot.file, home_keyframe=keyframe, home={})
    limits = dict(zip(robot.joint_ids.tolist(), robot.joint_pos_limits, strict=True))
    try:
        return read_home(file, robot.model, limits, robot.couplings)
    except RobotError:  # not for a keyframe of the model
        return robot.qpos(robot.home)
