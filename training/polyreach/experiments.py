"""The papers' experiments: which runs they consist of, as command lines of `polyreach train`."""

from dataclasses import dataclass

from polyreach.errors import UserError


@dataclass(frozen=True)
class Variant:
    """One line of a figure."""

    label: str
    method: str
    options: tuple[str, ...]
    """Options of `polyreach train` that make this variant."""


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
    """Environment steps of a run, unless told otherwise."""
    seeds: int


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
)

EXPERIMENTS = {experiment.name: experiment for experiment in (DIGRAD_FIG4,)}


def get_experiment(name: str) -> Experiment:
    """The experiment called `name`; UserError with the legal names otherwise."""
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment '{name}' (legal: {', '.join(EXPERIMENTS)})")
    return EXPERIMENTS[name]
