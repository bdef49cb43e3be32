"""Independent SAC: one agent per task, nothing shared (the grey line of PiCor's Fig. 2).

The agents are trained side by side in one batched update, but independently: each has its weights,
its temperature and its replay, and its gradient is clipped separately.
"""

import torch
from torch import Tensor, nn

from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.methods.off_policy import descend_apart
from polyreach.networks.mlp import TaskBody, TaskMLP

PAPER = "Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications; one agent per task"


class IndependentSAC(MTSAC):
    """One agent per task, in one batch."""

    def body(self, members: int, inputs: int, outputs: int) -> TaskBody:
        """A network per task."""
        return TaskMLP(members, self.env.tasks, inputs, self.config.hidden, outputs, "none")

    def descend(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor
    ) -> Tensor:
        """Step every agent down its loss; returns the mean of the norms of their gradients."""
        return descend_apart(optimizer, network, task_loss, self.config.grad_clip)


METHOD = Method(
    name="independent-sac",
    paper=PAPER,
    learner=IndependentSAC,
    settings=SACConfig(),
    tuned={"robot": tuned_sac(SACConfig())} | dict.fromkeys(BENCHMARKS, SACConfig()),
    old_names=("sac",),
)
