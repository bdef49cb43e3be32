"""What a draft of a robot.yaml samples: links that are always in contact, and a home without any.

As MoveIt's setup assistant does, configurations are drawn at random within the limits, and a pair
that is in contact in at least ALWAYS of them is left out of the collision check. So is one that is
always near, but never in contact: the controller would slow the robot for it all the time.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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
OFTEN = 0.5  # share of them in which a pair that is worth a look touches
FREE_SHARE = 0.02  # of them, below which goals can hardly be drawn
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

    def gaps(self, qpos: Vector) -> dict[LinkPair, float]:
        """Gaps [m], at most 0 where they touch, of the pairs of links that at qpos (model.nq,) are
        nearer than the distance (and can move relative to each other, or touch).
        """
        data, movers = self._data, self._movers
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_collision(self._model, data)
        gaps: dict[LinkPair, float] = {}
        contacts = zip(data.contact.geom.tolist(), data.contact.dist.tolist(), strict=True)
        for geoms, gap in (*contacts, *self._boxes.nearer_than(data, self._limits)):
            is_fixed = movers[geoms[0]] == movers[geoms[1]]  # to each other
            limit = ROUNDED if is_fixed else 0.0
            if gap <= limit or (gap < self._distance and not is_fixed):
                first, second = sorted(self._model.geom_bodyid[list(geoms)].tolist())
                pair = (self._model.body(first).name, self._model.body(second).name)
                gaps[pair] = min(gaps.get(pair, np.inf), 0.0 if is_fixed else gap)
        return gaps


def sample_contacts(robot: Robot) -> list[dict[LinkPair, float]]:
    """The gaps [m] of the pairs of links that are nearer than the slow distance, in each of SAMPLES
    random configurations; see ContactSampler.
    """
    sampler = ContactSampler(robot, robot.slow_distance)
    low, high = robot.joint_pos_limits.T
    sample = np.random.default_rng(0).uniform(low, high, (SAMPLES, len(low)))
    return [sampler.gaps(robot.qpos(joint_pos)) for joint_pos in sample]


def contact_pairs(robot: Robot) -> tuple[dict[LinkPair, str], dict[LinkPair, str]]:
    """Pairs of links to leave out of the collision check, each with the reason, and others to be
    decided on, with what is known of them: they touch in more than OFTEN of random configurations,
    or sometimes, and are nearer than the slow distance in ALWAYS.
    """
    samples, stop, slow = sample_contacts(robot), robot.stop_distance, robot.slow_distance
    touching = nearer(samples, 0.0)
    touch_share, near_share = shares(touching), shares(nearer(samples, stop))
    slow_share, reasons = shares(samples), {}
    for pair, share in slow_share.items():
        if share < ALWAYS or not all(pair):  # a link without a name cannot be listed
            continue
        if touch_share.get(pair, 0.0) >= ALWAYS:
            reasons[pair] = "always touch"
        elif near_share.get(pair, 0.0) >= ALWAYS:
            reasons[pair] = f"always touch or are nearer than {1e3 * stop:.3g} mm"
        elif pair not in touch_share:
            reasons[pair] = f"always nearer than {1e3 * slow:.3g} mm, never touch"
    for pair, share in touch_share.items():
        free = [not pairs - reasons.keys() for pairs in touching]
        if np.mean(free) >= FREE_SHARE:
            break
        if pair not in reasons and all(pair):  # or goals could not be drawn
            reasons[pair] = f"guess: touch in {share:.0%}, and hardly any configuration is free"
    often = {
        pair: f"touch in {share:.0%}"
        + (f", always nearer than {1e3 * slow:.3g} mm" if slow_share[pair] >= ALWAYS else "")
        for pair, share in touch_share.items()
        if (share > OFTEN or slow_share[pair] >= ALWAYS) and pair not in reasons and all(pair)
    }
    return reasons, often


def nearer(samples: list[dict[LinkPair, float]], distance: float) -> list[set[LinkPair]]:
    """The pairs in each of the samples whose gaps are below a distance [m]; those that touch, if it
    is 0.
    """
    return [
        {pair for pair, gap in gaps.items() if gap < distance or gap <= 0.0} for gaps in samples
    ]


def shares(samples: Sequence[Collection[LinkPair]]) -> dict[LinkPair, float]:
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
            if not sampler.gaps(qpos):
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
