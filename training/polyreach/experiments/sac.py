"""The experiments of picor-2023 and d-grad-2019."""

from dataclasses import replace

from polyreach.experiments.experiment import Column, Experiment, Variant

_ADA_OFF = ("--method-config.no-adaptive-weights",)
_COR_OFF = ("--method-config.no-correction",)

_SAC_FAMILY = (
    Variant("independent SAC", "independent-sac"),
    Variant("MTSAC", "mtsac"),
    Variant("MTMHSAC", "mtmhsac"),
    Variant("Soft Modularization", "soft-modularization"),
    Variant("KTM-DRL", "ktm"),
    Variant("D-Grad (A)", "dgrad-a"),
    Variant("D-Grad (O)", "dgrad-o"),
    Variant("PiCor", "picor"),
)
# without the correction the weights of the tasks are not used: Ada on or off is the same then
_ABLATIONS = (
    Variant("PiCor, Ada off", "picor", _ADA_OFF),
    Variant("PiCor, Cor off", "picor", _COR_OFF),
)


def _as_many_updates(tasks: int) -> Variant:
    """PiCor steps one task at a time, so that it makes as many updates more as there are tasks."""
    label = "MTSAC, as many updates as PiCor"
    return Variant(label, "mtsac", ("--method-config.updates-per-step", str(tasks)))


_RETURN = Column("return", "return", "{:,.0f}")

# networks and batches for a CPU, rewards of order one, and rates that lead somewhere in 12,000
# updates
_SMALL = (
    *("--method-config.batch-size", "32", "--method-config.learning-starts", "500"),
    *("--method-config.actor-lr", "1e-3", "--method-config.critic-lr", "1e-3"),
    *("--method-config.tau", "0.01", "--method-config.reward-scale", "0.1"),
)
_SMALL_ALPHA = ("--method-config.alpha-lr", "1e-3", "--method-config.initial-alpha", "0.1")
_SMALL_HIDDEN = ("--method-config.hidden", "128", "128")
_SMALL_OF = {
    "soft-modularization": (
        *_SMALL_ALPHA,
        *("--method-config.hidden", "64", "--method-config.embedding", "64"),
        *("--method-config.layers", "2", "--method-config.modules", "2"),
        *("--method-config.width", "64"),
    ),
    # tau as the temperatures, which start at 0.1 of the rewards' scale; see picor-search
    "picor": (*_SMALL_ALPHA, *_SMALL_HIDDEN, "--method-config.temperature", "0.01"),
    "ktm": (*_SMALL_HIDDEN, "--method-config.transfer-updates", "2000"),
}


def _small(variant: Variant) -> Variant:
    own = _SMALL_OF.get(variant.method, (*_SMALL_ALPHA, *_SMALL_HIDDEN))
    return replace(variant, options=(*own, *variant.options))


SAC_MT3 = Experiment(
    name="sac-mt3",
    title="The SAC family on three tasks of Meta-World",
    paper="Yu et al. 2019 and Bai et al. 2023",
    envs=("mt3",),
    variants=tuple(_small(one) for one in (*_SAC_FAMILY, *_ABLATIONS, _as_many_updates(3))),
    options=(
        *("--preset", "paper", "--num-envs", "12", "--eval-every", "12000"),
        *("--env-config.goals", "fixed", "--env-config.reward", "v2"),
        *_SMALL,
    ),
    steps=144_000,
    seeds=3,
    measure="success",
    columns=(_RETURN,),
)

SAC_CHEETAHS = Experiment(
    name="sac-cheetahs",
    title="The SAC family on eight HalfCheetahs",
    paper="Bai et al. 2023, Table 1, Fig. 2",
    envs=("cheetah8",),
    variants=(
        _small(Variant("MTSAC", "mtsac", published={"cheetah8": 7080})),
        _small(Variant("MTMHSAC", "mtmhsac", published={"cheetah8": 8170})),
        _small(Variant("D-Grad (O)", "dgrad-o", published={"cheetah8": 10084})),
        _small(Variant("PiCor", "picor", published={"cheetah8": 15200})),
        _small(_as_many_updates(8)),
    ),
    options=("--preset", "paper", "--num-envs", "16", "--eval-every", "16000", *_SMALL),
    steps=160_000,
    seeds=3,
    measure="return",
    published="Bai et al. 2023, Table 1: 2,400,000 steps, mean of five runs, simulator not given; "
    "D-Grad (O) is the paper's G-Surgery, there with two layers of 512",
)

_MT10_PUBLISHED = {
    "mtsac": 0.233,
    "mtmhsac": 0.460,
    "soft-modularization": 0.466,
    "ktm": 0.666,
    "dgrad-o": 0.633,
    "picor": 0.733,
}

SAC_MT10 = Experiment(
    name="sac-mt10",
    title="The SAC family on MT10 of Meta-World",
    paper="Bai et al. 2023, Tables 1 and 2",
    envs=("mt10",),
    variants=(
        *(
            replace(one, published={"mt10": _MT10_PUBLISHED[one.method]})
            if one.method in _MT10_PUBLISHED
            else one
            for one in _SAC_FAMILY
        ),
        Variant("PiCor, Ada off", "picor", _ADA_OFF, published={"mt10": 0.600}),
        Variant("PiCor, Cor off", "picor", _COR_OFF, published={"mt10": 0.240}),
        Variant(
            "PiCor, Ada and Cor off", "picor", (*_ADA_OFF, *_COR_OFF), published={"mt10": 0.233}
        ),
    ),
    options=(
        *("--preset", "paper", "--num-envs", "10", "--eval-every", "100000"),
        *("--env-config.goals", "fixed", "--env-config.reward", "v2"),
    ),
    steps=5_000_000,
    seeds=3,
    measure="success",
    columns=(_RETURN,),
    published="Bai et al. 2023, Tables 1 and 2: 5,000,000 steps, mean of five runs, version of "
    "Meta-World and of its rewards not given; D-Grad (O) is the paper's G-Surgery, there with two "
    "layers of 512",
    device="cuda",
)

SAC_PLANAR8 = Experiment(
    name="sac-planar8",
    title="The SAC family on a branched robot",
    paper="Bai et al. 2023",
    envs=("planar8",),
    variants=(*_SAC_FAMILY, _as_many_updates(4)),
    options=("--preset", "tuned", "--num-envs", "256", "--eval-every", "100000"),
    steps=1_000_000,
    seeds=3,
    measure="success",
)


def _tried(label: str, **changes: float) -> Variant:
    options = []
    for name, value in {"temperature": 1, "task_steps": 100, **changes}.items():
        options += [f"--method-config.{name.replace('_', '-')}", f"{value:g}"]
    return Variant(label, "picor", tuple(options))


PICOR_SEARCH = Experiment(
    name="picor-search",
    title="PiCor's constants, which its paper does not give",
    paper="Bai et al. 2023",
    envs=("planar8",),
    variants=(
        _tried("K 100, lambda 100, c -0.01, tau 1, two steps"),
        _tried("K 1", task_steps=1),
        _tried("K 10", task_steps=10),
        _tried("K 1000", task_steps=1000),
        _tried("lambda 10", penalty=10),
        _tried("lambda 1000", penalty=1000),
        _tried("c 0", constraint=0),
        _tried("c -1", constraint=-1),
        _tried("tau 0.01", temperature=0.01),
        _tried("one step", correction_steps=1),
    ),
    options=("--preset", "tuned", "--eval-every", "50000"),
    steps=300_000,
    seeds=1,
    measure="success",
    columns=(_RETURN,),
)
