"""Which links of a robot touch each other."""

from collections import Counter
from collections.abc import Iterable

import mujoco
import numpy as np
from numpy.typing import NDArray

LinkPair = tuple[str, str]


def touching_links(model: mujoco.MjModel, qpos: NDArray[np.float64]) -> list[set[LinkPair]]:
    """The pairs of links that touch in each of the configurations qpos (N, model.nq).

    Links are named as in 'no_collision'.
    """
    data, touching = mujoco.MjData(model), []
    for configuration in qpos:
        data.qpos[:] = configuration
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        touching.append(links_in_contact(model, data))
    return touching


def often_touching(model: mujoco.MjModel, qpos: NDArray[np.float64]) -> str:
    """The pairs of links that touch in more than half of the configurations qpos (N, model.nq)."""
    counts = Counter(pair for pairs in touching_links(model, qpos) for pair in pairs)
    often = [pair for pair, count in counts.items() if count > len(qpos) / 2]
    return pair_text(often) or "no two links in particular"


def links_in_contact(model: mujoco.MjModel, data: mujoco.MjData) -> set[LinkPair]:
    """The pairs of links whose geoms touch in `data`, after mujoco.mj_collision."""
    bodies = np.sort(model.geom_bodyid[data.contact.geom], axis=-1) if data.ncon else ()
    return {(model.body(first).name, model.body(second).name) for first, second in bodies}


def pair_text(pairs: Iterable[LinkPair]) -> str:
    """Pairs of links as messages show them and 'no_collision' takes them."""
    return ", ".join(f"[{first}, {second}]" for first, second in pairs)
