"""MTMHSAC: multi-task SAC with a head per task (Yu et al. 2019, arXiv:1910.10897; "Multi-head SAC"
of D-Grad, section 5, MTMHSAC of PiCor).

It differs from MTSAC in the last layer of actor and critics: each task has a last layer.
"""

from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.networks.mlp import TaskBody, TaskMLP

PAPER = "Yu et al. 2019, Meta-World: multi-task multi-head SAC (MTMHSAC)"


class MTMHSAC(MTSAC):
    """A shared trunk with a head per task."""

    def body(self, members: int, inputs: int, outputs: int) -> TaskBody:
        """A trunk for all tasks and a last layer for each."""
        return TaskMLP(members, self.env.tasks, inputs, self.config.hidden, outputs, "trunk")


METHOD = Method(
    name="mtmhsac",
    paper=PAPER,
    learner=MTMHSAC,
    settings=SACConfig(),
    tuned={"robot": tuned_sac(SACConfig())} | dict.fromkeys(BENCHMARKS, SACConfig()),
)
