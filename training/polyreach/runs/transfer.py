"""How well the policy of a run does in an environment, its own or another one: the tables of
multitask-continuous-control-2018.
"""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from polyreach.envs.env_spec import EVALUATION_SEED
from polyreach.envs.registry import find_env_spec
from polyreach.envs.task_env import Act, play_episodes
from polyreach.errors import UserError, check_range
from polyreach.methods.trained_policy import AdaptedPolicy
from polyreach.runs.folder import RunFolder
from polyreach.runs.trained_policy import read_run


class Returns(NamedTuple):
    """Undiscounted returns of some episodes of a task."""

    mean: float
    std: float
    """Of the episodes, not of their mean."""


def play_run(
    folder: Path, env: str = "", episodes: int = 20, noise: bool = False
) -> dict[str, Returns]:
    """Returns of every task of `env`, by default the run's own, with the newest policy in `folder`.
    Where the run has one task, its policy does all tasks.

    noise: draw the actions as in training. Raises UserError if the policy cannot act there, or
    draws no actions.
    """
    check_range("episodes", episodes, 1)
    config = RunFolder(folder).read_config()
    env_spec = find_env_spec(env or config.env, task_conditioned=True)
    with closing(env_spec.make_evaluation(config.env_config, episodes, "cpu", 1)) as evaluation:
        policy = read_run(str(folder)).adapt(evaluation)
        for name, row in zip(evaluation.task_names, policy.rows, strict=True):
            if row < 0:
                raise UserError(f"the run in '{folder}' does not know the task '{name}'")
        played = play_episodes(evaluation, _act_of(policy, noise), EVALUATION_SEED)
        values = played.returns.double()  # (T, n)
        std = values.std(dim=1, correction=0)
        pairs = zip(values.mean(dim=1).tolist(), std.tolist(), strict=True)
        return {
            name: Returns(*pair) for name, pair in zip(evaluation.task_names, pairs, strict=True)
        }


def _act_of(policy: AdaptedPolicy, noise: bool) -> Act:
    """Its actions, drawn if `noise`. Raises UserError if it draws none."""
    rows = torch.tensor(policy.rows)
    if not noise:
        return lambda obs: policy.action(obs, rows)
    distribution = policy.distribution
    if distribution is None:
        raise UserError(f"the policy in '{policy.path}' draws no actions")
    generator = torch.Generator().manual_seed(EVALUATION_SEED)

    def act(obs: Tensor) -> Tensor:
        mean, log_std = distribution(obs, rows)
        drawn = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
        return drawn.tanh() if policy.squashes else drawn

    return act
