"""The scripted policies of Meta-World's tasks, which the package metaworld contains."""

import hashlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polyreach.envs.metaworld.task import import_metaworld
from polyreach.envs.task_env import Scripted


def scripted_policies(names: Sequence[str]) -> Scripted:
    """The scripted policies of the tasks `names`, as of the package.

    They observe what MetaWorldEnv gives, with the goal, and keep no memory. Their actions are
    clipped to [-1, 1], as the package's environments do.
    """
    import_metaworld()
    classes = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
    policies = [classes[name]() for name in names]
    sources = [inspect.getsource(sys.modules[type(policy).__module__]) for policy in policies]

    def action(obs: Tensor, tasks: Tensor) -> Tensor:
        rows = obs.double().cpu().numpy()  # (T', B, 39)
        with warnings.catch_warnings():
            # at every action that is to be clipped
            warnings.filterwarnings("ignore", "Constant", UserWarning)
            actions = np.array(
                [
                    [policies[task].get_action(x) for x in row]
                    for task, row in zip(tasks.tolist(), rows, strict=True)
                ]
            )
        return torch.from_numpy(actions.clip(-1.0, 1.0)).to(obs)

    return Scripted(hashlib.sha256("".join(sources).encode()).hexdigest(), action)
