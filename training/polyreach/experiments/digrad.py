"""The experiment of digrad-2018."""

from polyreach.experiments.experiment import Column, Experiment, Variant

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
