"""The experiments of gradient-guided-specialization-2017."""

from dataclasses import replace

from polyreach.experiments.experiment import Experiment, Variant

# the paper's Table I: environments, then a row per variant
_TABLE_1 = ("hoppers3", "biped2")


def _specialized(label: str, jt: int, sp: int, *published: float, random: bool = False) -> Variant:
    """jt in thousands of steps, sp in per cent."""
    options: tuple[str, ...] = ("--method-config.joint-steps", str(1000 * jt))
    options = (*options, "--method-config.specialized", f"{sp / 100:g}")
    if random:
        options = (*options, "--method-config.selection", "random")
    figures = dict(zip(_TABLE_1, published, strict=False))
    return Variant(label, "specialization", options, figures)


_ONE_HOT = ("--method-config.one-hot",)
_BASELINES = (
    Variant("sp 0 %", "ppo", published=dict(zip(_TABLE_1, (1601.94, 877.80), strict=True))),
    _specialized("jt 0, sp 100 %", 0, 100, 2240.07, 966.65),
    _specialized("jt 400k, sp 25 %, random", 400, 25, 1994.28, 2154.09, random=True),
    Variant("append", "ppo", _ONE_HOT, dict(zip(_TABLE_1, (1603.91, 800.59), strict=True))),
)
_ON_LEGS = ("--preset", "paper", "--eval-every", "100000", "--eval-goals", "20")

SPECIALIZATION = Experiment(
    name="specialization",
    title="Gradient-guided specialisation",
    paper="Yu et al. 2017, Table I",
    envs=_TABLE_1,
    variants=(
        *_BASELINES,
        _specialized("jt 80k, sp 5 %", 80, 5, 2516.05, 1804.13),
        _specialized("jt 80k, sp 25 %", 80, 25, 2447.45, 1407.69),
        _specialized("jt 80k, sp 50 %", 80, 50, 2541.31, 2681.31),
        _specialized("jt 400k, sp 5 %", 400, 5, 2407.68, 2773.29),
        _specialized("jt 400k, sp 25 %", 400, 25, 2635.56, 2671.23),
        _specialized("jt 400k, sp 50 %", 400, 50, 2302.74, 2381.18),
        _specialized("jt 800k, sp 5 %", 800, 5, 2076.98, 1931.47),
        _specialized("jt 800k, sp 25 %", 800, 25, 2227.95, 2438.77),
        _specialized("jt 800k, sp 50 %", 800, 50, 2242.20, 2562.53),
    ),
    options=_ON_LEGS,
    steps=1_200_000,
    seeds=3,
    measure="return",
    published="Yu et al. 2017, Table I: mean of three runs in another simulator (Dart), on robots "
    "and with rewards that the paper does not give in full, so that the order of the methods is "
    "what can be compared",
    env_options={
        "hoppers3": ("--num-envs", "24"),
        "biped2": ("--num-envs", "24", "--method-config.batch-steps", "8000"),
    },
)

SPECIALIZATION_MASS = Experiment(
    name="specialization-mass",
    title="Gradient-guided specialisation of hoppers whose torsos differ in mass",
    paper="Yu et al. 2017, Fig. 6",
    envs=("hoppers-3kg", "hoppers-8kg", "hoppers-14kg"),
    variants=tuple(
        replace(one, published={})
        for one in (*_BASELINES, _specialized("jt 400k, sp 25 %", 400, 25))
    ),
    options=(*_ON_LEGS, "--num-envs", "24"),
    steps=1_200_000,
    seeds=3,
    measure="return",
)
