"""The papers' experiments: which runs they consist of, as command lines of `polyreach train`."""

from dataclasses import dataclass
from typing import Literal

from polyreach.errors import UserError

Measure = Literal["score", "success", "return"]


@dataclass(frozen=True)
class Variant:
    """One line of a figure."""

    label: str
    method: str
    options: tuple[str, ...] = ()
    """Options of `polyreach train` that make this variant."""
    published: float | None = None
    """The paper's figure for it, in units of the experiment's measure."""


@dataclass(frozen=True)
class Column:
    """A further number of the table: the mean, or the median, over the last evaluations."""

    title: str
    key: str
    """In the records of a run's evaluations."""
    form: str
    """How it is written, as for str.format."""
    factor: float = 1.0
    median: bool = False


@dataclass(frozen=True)
class Experiment:
    """Variants, each trained on every environment with every seed."""

    name: str
    title: str
    paper: str
    envs: tuple[str, ...]
    variants: tuple[Variant, ...]
    options: tuple[str, ...]
    """Options that all variants share."""
    steps: int
    """Environment steps of a run, the total over all tasks, unless told otherwise."""
    seeds: int
    measure: Measure
    """What is compared: `<measure>_<task>` in the records of a run's evaluations."""
    columns: tuple[Column, ...] = ()
    published: str = ""
    """Where the published figures are from, and how they were made."""
    device: str = "cpu"
    """Device of the runs, unless told otherwise."""


_SINGLE, _MULTI = ("--method-config.critic", "single"), ("--method-config.critic", "multi")
_AVERAGE, _SUM = ("--method-config.heuristic",), ("--method-config.no-heuristic",)

DIGRAD_FIG4 = Experiment(
    name="digrad-fig4",
    title="DiGrad and DDPG",
    paper="Dewangan et al. 2018, Fig. 4",
    envs=("planar8", "humanoid27"),
    variants=(
        Variant("DiGrad, single critic, heuristic", "digrad", (*_SINGLE, *_AVERAGE)),
        Variant("DiGrad, single critic", "digrad", (*_SINGLE, *_SUM)),
        Variant("DiGrad, multi critic, heuristic", "digrad", (*_MULTI, *_AVERAGE)),
        Variant("DiGrad, multi critic", "digrad", (*_MULTI, *_SUM)),
        Variant("DDPG", "ddpg", ("--env-config.reward", "paper_scalar")),
        Variant("DDPG, summed reward", "ddpg", ("--env-config.reward", "paper_sum")),
    ),
    options=(
        *("--preset", "paper", "--num-envs", "64", "--eval-every", "32000"),
        *("--method-config.noise-steps", "300000"),
    ),
    steps=480_000,
    seeds=3,
    measure="score",
    columns=(
        Column("median error [mm]", "error_median", "{:.0f}", factor=1e3, median=True),
        Column("all within 2 cm", "success_all", "{:.1%}"),
    ),
)

_ADA_OFF = ("--method-config.no-adaptive-weights",)
_COR_OFF = ("--method-config.no-correction",)

_SAC_FAMILY = (
    Variant("independent SAC", "sac"),
    Variant("MTSAC", "mtsac"),
    Variant("MTMHSAC", "mtmhsac"),
    Variant("Soft Modularization", "soft-modularization"),
    Variant("KTM-DRL", "ktm"),
    Variant("D-Grad (A)", "dgrad-a"),
    Variant("D-Grad (O)", "dgrad-o"),
    Variant("PiCor", "picor"),
)
_ABLATIONS = (
    Variant("PiCor, Ada off", "picor", _ADA_OFF),
    Variant("PiCor, Cor off", "picor", _COR_OFF),
    Variant("PiCor, Ada and Cor off", "picor", (*_ADA_OFF, *_COR_OFF)),
)
_RETURN = Column("return", "return", "{:,.0f}")

SAC_MT3 = Experiment(
    name="sac-mt3",
    title="The SAC family on three tasks of Meta-World",
    paper="Yu et al. 2019 and Bai et al. 2023",
    envs=("mt3",),
    variants=(*_SAC_FAMILY, *_ABLATIONS),
    options=(
        *("--preset", "paper", "--num-envs", "3", "--eval-every", "9000"),
        *("--env-config.goals", "fixed", "--env-config.reward", "v2"),
    ),
    steps=180_000,
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
        Variant("MTSAC", "mtsac", published=7080),
        Variant("MTMHSAC", "mtmhsac", published=8170),
        Variant("D-Grad (O)", "dgrad-o", published=10084),
        Variant("PiCor", "picor", published=15200),
    ),
    options=("--preset", "paper", "--num-envs", "8", "--eval-every", "40000"),
    steps=400_000,
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
            Variant(one.label, one.method, one.options, _MT10_PUBLISHED.get(one.method))
            for one in _SAC_FAMILY
        ),
        Variant("PiCor, Ada off", "picor", _ADA_OFF, published=0.600),
        Variant("PiCor, Cor off", "picor", _COR_OFF, published=0.240),
        Variant("PiCor, Ada and Cor off", "picor", (*_ADA_OFF, *_COR_OFF), published=0.233),
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
    variants=_SAC_FAMILY,
    options=("--preset", "tuned", "--num-envs", "256", "--eval-every", "100000"),
    steps=1_000_000,
    seeds=3,
    measure="success",
    columns=(Column("median error [mm]", "error_median", "{:.1f}", factor=1e3, median=True),),
)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (DIGRAD_FIG4, SAC_MT3, SAC_CHEETAHS, SAC_MT10, SAC_PLANAR8)
}


def get_experiment(name: str) -> Experiment:
    """The experiment called `name`; UserError with the legal names otherwise."""
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment '{name}' (legal: {', '.join(EXPERIMENTS)})")
    return EXPERIMENTS[name]
