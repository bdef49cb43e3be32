"""The experiments of gradient-guided-specialization-2017."""

from dataclasses import replace

from polyreach.experiments.experiment import Claim, Experiment, Variant, Verdict, override
from polyreach.methods.ppo import PPOConfig
from polyreach.methods.specialization import SpecializationConfig


def _published(hoppers: float, biped: float) -> dict[str, float]:
    """The returns of the paper's Table I."""
    return {"hoppers3": hoppers, "biped2": biped}


def _specialized(jt: int, sp: int, hoppers: float, biped: float) -> Variant:
    """jt in thousands of steps, sp in per cent, and the paper's returns."""
    return Variant(
        f"jt {jt}{'k' if jt else ''}, sp {sp} %",
        "specialization",
        (override(SpecializationConfig, joint_steps=1000 * jt, specialized=sp / 100),),
        published=_published(hoppers, biped),
    )


_JOINT = Variant("sp 0 %", "ppo", published=_published(1601.94, 877.80))
_SEPARATE = _specialized(0, 100, 2240.07, 966.65)
_SPLIT = _specialized(400, 25, 2635.56, 2671.23)
_RANDOM = replace(
    _SPLIT,
    label=f"{_SPLIT.label}, random",
    overrides=(*_SPLIT.overrides, override(SpecializationConfig, selection="random")),
    published=_published(1994.28, 2154.09),
)
_APPEND = Variant(
    "append", "ppo", (override(PPOConfig, one_hot=True),), published=_published(1603.91, 800.59)
)
_COMPARED = (_JOINT, _SEPARATE, _RANDOM, _APPEND)

_TABLE_1 = (
    *_COMPARED,
    _specialized(80, 5, 2516.05, 1804.13),
    _specialized(80, 25, 2447.45, 1407.69),
    _specialized(80, 50, 2541.31, 2681.31),
    _specialized(400, 5, 2407.68, 2773.29),
    _SPLIT,
    _specialized(400, 50, 2302.74, 2381.18),
    _specialized(800, 5, 2076.98, 1931.47),
    _specialized(800, 25, 2227.95, 2438.77),
    _specialized(800, 50, 2242.20, 2562.53),
)
"""Its environments have a page each, for what suits one does not suit the other."""

_AVERAGED = replace(
    _SPLIT,
    label=f"{_SPLIT.label}, averaged gradients",
    overrides=(
        *_SPLIT.overrides,
        override(SpecializationConfig, average="gradients", average_iterations=20),
    ),
    published={},
)
_SHARED = replace(
    _SPLIT,
    label=f"{_SPLIT.label}, shared value function",
    overrides=(*_SPLIT.overrides, override(PPOConfig, own_values=False)),
    published={},
)


def _constant(variant: Variant) -> Variant:
    """With a learning rate that does not fall."""
    return replace(
        variant,
        label=f"{variant.label}, constant rate",
        overrides=(*variant.overrides, override(PPOConfig, final_lr=1.0)),
        published={},
    )


_AVERAGING = (
    "`averaged gradients` chooses weights by the disagreement of the tasks' gradients averaged "
    "over 20 iterations, of which [less is noise](specialization-noise.md)."
)

_SEEDS: dict[tuple[str, Verdict], str] = {
    ("hoppers3", "open"): "With a rate that falls, seeds of one variant differ as much as the "
    "variants do. Joint training hops, too, so that a split has little to gain. It can lose: from "
    "then on, a weight that is split learns from the steps of one task only. With a constant rate "
    "(one seed) returns rise and fall, and joint training is highest at the end.",
}

SPECIALIZATION = Experiment(
    name="specialization",
    title="Gradient-guided specialisation of three hoppers",
    paper="Yu et al. 2017, Table I",
    envs=("hoppers3",),
    variants=(
        *_TABLE_1,
        _AVERAGED,
        *(_constant(variant) for variant in (*_COMPARED, _SPLIT)),
    ),
    preset="paper",
    overrides=(override(PPOConfig, pooled_advantages=True),),
    num_envs=24,
    eval_every=250_000,
    eval_goals=20,
    steps=3_000_000,
    seeds=3,
    measure="return",
    published="Yu et al. 2017, Table I: mean of three runs in another simulator (Dart), on robots "
    "and with rewards that the paper does not give in full, so that the order of the methods is "
    "what can be compared",
    note="Advantages are pooled over the tasks. The learning rate falls to 0 at the last step, "
    "which leaves 75 % of the summed rate after a split at 400k, or is constant. " + _AVERAGING,
    claims=tuple(Claim(_SPLIT.label, other.label, why=_SEEDS) for other in _COMPARED),
)

_WALKING: dict[tuple[str, Verdict], str] = {
    ("biped2", "holds"): "A policy that is not told the task cannot walk both ways: it stands, and "
    "gets the reward of not falling.",
    ("biped2", "open"): "What is split need only be enough to tell the two tasks apart: a quarter "
    "of the weights chosen at random, or an input, does as well.",
}

SPECIALIZATION_BIPED = replace(
    SPECIALIZATION,
    name="specialization-biped",
    title="Gradient-guided specialisation of a biped",
    envs=("biped2",),
    variants=(*_TABLE_1, _AVERAGED, _SHARED),
    overrides=(override(PPOConfig, batch_steps=8000, pooled_advantages=True, own_values=True),),
    eval_every=200_000,
    steps=2_000_000,
    note="Each task has a value function of its own: one that is not told the task would estimate "
    "the returns of walking forward and of walking backward from the same states (`shared value "
    "function`). Advantages are pooled over the tasks; the learning rate falls to 0 at the last "
    "step. " + _AVERAGING,
    claims=tuple(Claim(_SPLIT.label, other.label, why=_WALKING) for other in _COMPARED),
)

_MASSES = ("hoppers-3kg", "hoppers-8kg", "hoppers-14kg")
_ONE_GAIT: dict[tuple[str, Verdict], str] = {
    (env, "open"): "One gait carries torsos of 3 to 15 kg: joint training is as good for both "
    "hoppers as a policy for each, which learns from half of the steps, so that a split has little "
    "to gain. Seeds of one variant differ as much as the variants do."
    for env in _MASSES
}

SPECIALIZATION_MASS = replace(
    SPECIALIZATION,
    name="specialization-mass",
    title="Gradient-guided specialisation of hoppers whose torsos differ in mass",
    paper="Yu et al. 2017, Fig. 6",
    envs=_MASSES,
    variants=tuple(replace(variant, published={}) for variant in (*_COMPARED, _SPLIT)),
    eval_every=100_000,
    steps=1_200_000,
    published="",
    note="Advantages are pooled over the tasks, and the learning rate falls to 0 at the last step.",
    claims=(
        Claim(_SEPARATE.label, _JOINT.label, envs=_MASSES[:1], why=_ONE_GAIT),
        Claim(_JOINT.label, _SEPARATE.label, envs=_MASSES[1:], why=_ONE_GAIT),
        *(Claim(_SPLIT.label, other.label, why=_ONE_GAIT) for other in _COMPARED),
    ),
)
