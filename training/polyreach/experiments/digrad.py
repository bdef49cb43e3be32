"""The experiment of digrad-2018."""

from typing import Literal

from polyreach.envs.reach.config import ReachConfig
from polyreach.experiments.experiment import Column, Experiment, Variant, override
from polyreach.methods.deterministic import DeterministicConfig
from polyreach.methods.digrad import DiGradConfig


def _digrad(label: str, critic: Literal["single", "multi"], heuristic: bool) -> Variant:
    return Variant(label, "digrad", (override(DiGradConfig, critic=critic, heuristic=heuristic),))


DIGRAD_FIG4 = Experiment(
    name="digrad-fig4",
    title="DiGrad and DDPG",
    paper="Dewangan et al. 2018, Fig. 4",
    envs=("planar8", "humanoid27"),
    variants=(
        _digrad("DiGrad, single critic, heuristic", "single", heuristic=True),
        _digrad("DiGrad, single critic", "single", heuristic=False),
        _digrad("DiGrad, multi critic, heuristic", "multi", heuristic=True),
        _digrad("DiGrad, multi critic", "multi", heuristic=False),
        Variant("DDPG", "ddpg", (override(ReachConfig, reward="paper_scalar"),)),
        Variant("DDPG, summed reward", "ddpg", (override(ReachConfig, reward="paper_sum"),)),
    ),
    preset="paper",
    overrides=(override(DeterministicConfig, noise_steps=300_000),),
    num_envs=64,
    eval_every=32_000,
    steps=480_000,
    seeds=3,
    measure="score",
    columns=(
        Column("median error [mm]", "error_median", "{:.0f}", factor=1e3, median=True),
        Column("all within 2 cm", "success_all", "{:.1%}"),
    ),
)
