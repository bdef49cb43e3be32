"""The experiments of digrad-2018."""

from polyreach.envs.reach.config import ReachConfig
from polyreach.experiments.experiment import Claim, Column, Experiment, Variant, override
from polyreach.methods.deterministic import DeterministicConfig
from polyreach.methods.digrad import DiGradConfig
from polyreach.networks.actor_critic import CriticKind


def _digrad(label: str, critic: CriticKind, heuristic: bool) -> Variant:
    return Variant(label, "digrad", (override(DiGradConfig, critic=critic, heuristic=heuristic),))


_BEST = "DiGrad, single critic, heuristic"
_MULTI = "DiGrad, multi critic, heuristic"
_DIGRAD = (
    _digrad(_BEST, "single", heuristic=True),
    _digrad("DiGrad, single critic", "single", heuristic=False),
    _digrad(_MULTI, "multi", heuristic=True),
    _digrad("DiGrad, multi critic", "multi", heuristic=False),
)
_MASKED_VARIANTS = (
    _digrad("DiGrad, masked critic, heuristic", "masked", heuristic=True),
    _digrad("DiGrad, masked critic", "masked", heuristic=False),
)
_CLAIMS = (
    Claim(_BEST, "DDPG"),
    Claim(_BEST, "DDPG, summed reward"),
    Claim(_BEST, "DiGrad, single critic"),
    Claim(
        _BEST,
        _MULTI,
        why={
            (
                "planar8",
                "opposite",
            ): "The masked critic sees of the joints what each of the n critics "
            "sees, and is not better than the single one: what n critics have more is weights."
        },
    ),
)
_NOTE = (
    "Masked critic (not in the paper): one critic as in 'single critic', whose output for a task "
    "is computed with the other tasks' joints at zero, as in 'multi critic'. It tests whether the "
    "single critic is held back by having to learn which joints do not matter to a task."
)

DIGRAD_FIG4 = Experiment(
    name="digrad-fig4",
    title="DiGrad and DDPG",
    paper="Dewangan et al. 2018, Fig. 4",
    envs=("planar8", "humanoid27"),
    variants=(
        *_DIGRAD,
        Variant("DDPG", "ddpg", (override(ReachConfig, reward="paper_scalar"),)),
        Variant("DDPG, summed reward", "ddpg", (override(ReachConfig, reward="paper_sum"),)),
        *_MASKED_VARIANTS,
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
    note=_NOTE,
    claims=_CLAIMS,
)

DIGRAD_TUNED = Experiment(
    name="digrad-tuned",
    title="DiGrad and DDPG with the settings of the shipped policies",
    paper="Dewangan et al. 2018, Fig. 4",
    envs=("planar8", "humanoid27"),
    variants=(*_DIGRAD, Variant("DDPG, summed reward", "ddpg"), *_MASKED_VARIANTS),
    overrides=(override(DeterministicConfig, noise_steps=300_000),),
    eval_every=50_000,
    steps=600_000,
    seeds=3,
    measure="success",
    columns=(Column("median error [mm]", "error_median", "{:.2f}", factor=1e3, median=True),),
    note="[DiGrad and DDPG](digrad-fig4.md) ends before success is common. Here learning is "
    "quicker: kinematic features, twin critics, Adam, and a configuration named by the actor, "
    "which blends into least squares near the goals (preset `tuned`). The reward is logarithmic; "
    "DDPG has the sum of DiGrad's. A goal set succeeds when all effectors are within 2 cm of their "
    f"goals.\n\n{_NOTE}",
    claims=tuple(claim for claim in _CLAIMS if claim.worse != "DDPG"),
)
