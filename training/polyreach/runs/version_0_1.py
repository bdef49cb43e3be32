"""Checkpoints of version 0.1, in which DDPG and DiGrad had a learner of their own."""

from typing import Any

import torch


def from_version_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a learner as this version stores it; other states are returned as they are.

    In version 0.1 the policy of DDPG and DiGrad was called so, its network `actor`, and their
    observations (n, O) and replay had no axis of tasks: `store` held obs, action, reward and
    next_obs, and every transition went on, since reach episodes are only cut by time.
    """
    if "policy" not in state:
        return state
    rest = {name: value for name, value in state.items() if name != "policy"}
    actor = {
        "mu." + name.removeprefix("actor.") if name.startswith("actor.") else name: value
        for name, value in state["policy"].items()
    }
    replay = state["replay"]
    obs, action, reward, next_obs = replay["store"]
    terminated = torch.zeros(len(obs), 1)
    ring = torch.cat([obs, action, reward, terminated, next_obs], dim=-1)
    return {
        **rest,
        "actor": actor,
        "obs": state["obs"][None],
        "replay": {"next": [replay["next"]], "size": [replay["size"]], "store": [ring]},
    }
