"""The experiments of gradient-guided-specialization-2017."""

from dataclasses import replace
from typing import Literal

from polyreach.experiments.experiment import Claim, Experiment, Variant, Verdict, override
from polyreach.methods.ppo import PPOConfig
from polyreach.methods.specialization import SpecializationConfig

# the paper's Table I: environments, then a row per variant
_TABLE_1 = ("hoppers3", "biped2")


def _published(*returns: float) -> dict[str, float]:
    """The paper's returns on the environments of its Table I."""
    return dict(zip(_TABLE_1, returns, strict=True))


def _specialized(
    jt: int, sp: int, *returns: float, selection: Literal["gradient", "random"] = "gradient"
) -> Variant:
    """jt in thousands of steps, sp in per cent, and the paper's returns."""
    label = f"jt {jt}{'k' if jt else ''}, sp {sp} %"
    if selection == "random":
        label += ", random"
    settings = override(
        SpecializationConfig, joint_steps=1000 * jt, specialized=sp / 100, selection=selection
    )
    return Variant(label, "specialization", (settings,), published=_published(*returns))


_BASELINES = (
    Variant("sp 0 %", "ppo", published=_published(1601.94, 877.80)),
    _specialized(0, 100, 2240.07, 966.65),
    _specialized(400, 25, 1994.28, 2154.09, selection="random"),
    Variant(
        "append", "ppo", (override(PPOConfig, one_hot=True),), published=_published(1603.91, 800.59)
    ),
)

_JOINT, _SEPARATE, _RANDOM, _APPEND = (variant.label for variant in _BASELINES)
_SPLIT = _specialized(400, 25, 2635.56, 2671.23)


def _constant(variant: Variant) -> Variant:
    """With a learning rate that does not fall."""
    return replace(
        variant,
        label=f"{variant.label}, constant rate",
        overrides=(*variant.overrides, override(PPOConfig, final_lr=1.0)),
        published={},
    )


_SPLIT_CLAIMS = tuple(Claim(_SPLIT.label, other) for other in (_JOINT, _SEPARATE, _RANDOM, _APPEND))

SPECIALIZATION = Experiment(
    name="specialization",
    title="Gradient-guided specialisation",
    paper="Yu et al. 2017, Table I",
    envs=_TABLE_1,
    variants=(
        *_BASELINES,
        _specialized(80, 5, 2516.05, 1804.13),
        _specialized(80, 25, 2447.45, 1407.69),
        _specialized(80, 50, 2541.31, 2681.31),
        _specialized(400, 5, 2407.68, 2773.29),
        _SPLIT,
        _specialized(400, 50, 2302.74, 2381.18),
        _specialized(800, 5, 2076.98, 1931.47),
        _specialized(800, 25, 2227.95, 2438.77),
        _specialized(800, 50, 2242.20, 2562.53),
    ),
    preset="paper",
    env_overrides={"biped2": (override(PPOConfig, batch_steps=8000),)},
    num_envs=24,
    eval_every=100_000,
    eval_goals=20,
    steps=1_200_000,
    seeds=3,
    measure="return",
    published="Yu et al. 2017, Table I: mean of three runs in another simulator (Dart), on robots "
    "and with rewards that the paper does not give in full, so that the order of the methods is "
    "what can be compared",
    claims=_SPLIT_CLAIMS,
)

_SEEDS: dict[tuple[str, Verdict], str] = {
    ("hoppers3", "open"): "With a rate that falls, seeds of one variant differ as much as the "
    "variants do. Joint training hops, too, so that a split has little to gain. It can lose: from "
    "then on, a weight that is split learns from the steps of one task only. With a constant rate "
    "(one seed) returns rise and fall, and joint training is highest at the end.",
}

SPECIALIZATION_LONG = replace(
    SPECIALIZATION,
    name="specialization-long",
    title="Gradient-guided specialisation of hoppers over 3 M steps",
    envs=("hoppers3",),
    variants=(*_BASELINES, _SPLIT, *(_constant(variant) for variant in (*_BASELINES, _SPLIT))),
    overrides=(override(PPOConfig, pooled_advantages=True),),
    eval_every=250_000,
    steps=3_000_000,
    note="In [Table I](specialization.md) the learning rate falls to 0 at 1.2 M steps, so that "
    "44 % of the summed rate is left after a split at 400k, and advantages are normalised for each "
    "task. Here the rate falls to 0 at 3 M steps, which leaves 75 %, or is constant, and "
    "advantages are pooled.",
    claims=tuple(replace(claim, why=_SEEDS) for claim in _SPLIT_CLAIMS),
)

_WALKING: dict[tuple[str, Verdict], str] = {
    ("biped2", "holds"): "A policy that is not told the task cannot walk both ways: it stands, and "
    "gets the reward of not falling.",
    ("biped2", "open"): "What is split need only be enough to tell the two tasks apart: a quarter "
    "of the weights chosen at random, or an input, does as well. In Table I, where the tasks share "
    "a value function, most split policies (one seed) are no better than the joint one.",
}

SPECIALIZATION_BIPED = replace(
    SPECIALIZATION,
    name="specialization-biped",
    title="Gradient-guided specialisation of a biped with a value function for each task",
    envs=("biped2",),
    variants=(*_BASELINES, _SPLIT),
    overrides=(override(PPOConfig, pooled_advantages=True, own_values=True),),
    eval_every=200_000,
    steps=2_000_000,
    note="In [Table I](specialization.md) one value function, which is not told the task, "
    "estimates the returns of walking forward and of walking backward from the same states, and "
    "the learning rate falls to 0 at 1.2 M steps. Here each task has a value function of its own, "
    "the rate falls to 0 at 2 M steps, and advantages are pooled.",
    claims=tuple(replace(claim, why=_WALKING) for claim in _SPLIT_CLAIMS),
)

SPECIALIZATION_MASS = replace(
    SPECIALIZATION,
    name="specialization-mass",
    title="Gradient-guided specialisation of hoppers whose torsos differ in mass",
    paper="Yu et al. 2017, Fig. 6",
    envs=("hoppers-3kg", "hoppers-8kg", "hoppers-14kg"),
    variants=tuple(replace(variant, published={}) for variant in (*_BASELINES, _SPLIT)),
    overrides=(override(PPOConfig, pooled_advantages=True),),
    published="",
    claims=(
        Claim(_SEPARATE, _JOINT, envs=("hoppers-3kg",)),
        Claim(_JOINT, _SEPARATE, envs=("hoppers-8kg", "hoppers-14kg")),
        *_SPLIT_CLAIMS,
    ),
)
