"""The experiments of multitask-continuous-control-2018."""

from polyreach.experiments.experiment import Claim, Experiment, Variant, override
from polyreach.methods.a2c import A2CConfig
from polyreach.methods.distillation import DistillationConfig
from polyreach.methods.fine_tuning import FineTuningConfig

_SMALL_FOOT, _SMALL_LEG = "cheetah-smallfoot", "cheetah-smallleg"
_OTHER = {_SMALL_FOOT: _SMALL_LEG, _SMALL_LEG: _SMALL_FOOT}
_ALONE = (override(A2CConfig, sharing="none"),)


def _table_1(small_foot: tuple[str, str], small_leg: tuple[str, str]) -> dict[tuple[str, str], str]:
    """The paper's figures after training on SmallFoot, and on SmallLeg: of SmallFoot and of
    SmallLeg each.
    """
    rows = {_SMALL_FOOT: small_foot, _SMALL_LEG: small_leg}
    return {
        (env, task): text
        for env, row in rows.items()
        for task, text in zip(("SmallFoot", "SmallLeg"), row, strict=True)
        if text
    }


_SCRATCH = Variant(
    "scratch, 5M",
    "a2c",
    _ALONE,
    published_returns=_table_1(("1582.78 ± 30.46", ""), ("", "1536.16 ± 30.26")),
)

_START = (
    "After 1 M steps, a fine-tuned run does about as well as the run that it starts from (without "
    "noise, 0.80 to 1.15 times in the six pairs of a seed), and from scratch the seeds of one "
    "robot differ up to ten times: the start decides, more than the method."
)

MULTITASK_FINE_TUNING = Experiment(
    name="multitask-fine-tuning",
    title="A2C from scratch and fine-tuned from another HalfCheetah",
    paper="Arora et al. 2018, Table 1",
    envs=(_SMALL_FOOT, _SMALL_LEG),
    variants=(
        _SCRATCH,
        Variant(
            "fine-tuned from the other, 1M",
            "fine-tuning",
            after=_SCRATCH,
            after_env=_OTHER,
            steps=1_000_000,
            published_returns=_table_1(
                ("1600.31 ± 26.32", "1498.45 ± 19.76"), ("1530.26 ± 29.22", "1532.70 ± 23.35")
            ),
        ),
        Variant(
            "fine-tuned from the other, 5M",
            "fine-tuning",
            after=_SCRATCH,
            after_env=_OTHER,
            published_returns=_table_1(
                ("1493.02 ± 27.21", "1425.64 ± 29.82"), ("1500.76 ± 30.36", "1568.66 ± 29.56")
            ),
        ),
        Variant(
            "fine-tuned from the other, actor's last two layers, 1M",
            "fine-tuning",
            (override(FineTuningConfig, actor_layers=2),),
            after=_SCRATCH,
            after_env=_OTHER,
            steps=1_000_000,
        ),
    ),
    preset="paper",
    num_envs=16,
    eval_every=50_000,
    steps=5_000_000,
    seeds=3,
    measure="return",
    curves_by_task=True,
    rollouts=20,
    published="Arora et al. 2018, Table 1: one run of each, 20 episodes, in an "
    "earlier version of the simulator and of HalfCheetah",
    claims=(
        Claim(
            "fine-tuned from the other, 1M",
            _SCRATCH.label,
            why={
                ("cheetah-smallfoot", "open"): _START,
                ("cheetah-smallleg", "open"): _START,
            },
        ),
    ),
)


def _table_2(*figures: str) -> dict[tuple[str, str], str]:
    """The paper's figures of the six tasks, in the order of its table."""
    tasks = ("SmallFoot", "BigFoot", "SmallLeg", "SmallThigh", "SmallTorso", "BigTorso")
    return {("cheetah6", task): text for task, text in zip(tasks, figures, strict=True)}


_SCRATCH_6 = Variant(
    "scratch, 3M each",
    "a2c",
    _ALONE,
    published_returns=_table_2(
        "1326.30 ± 21.15",
        "37.80 ± 441.49",
        "1420.77 ± 21.66",
        "1444.21 ± 24.75",
        "2116.10 ± 29.24",
        "1312.50 ± 24.75",
    ),
    steps=18_000_000,
)

MULTITASK = Experiment(
    name="multitask",
    title="Six HalfCheetahs: A2C from scratch, distilled, and with a head per task",
    paper="Arora et al. 2018, Table 2",
    envs=("cheetah6",),
    variants=(
        _SCRATCH_6,
        Variant(
            "distillation, 1M per head",
            "distillation",
            after=_SCRATCH_6,
            published_returns=_table_2(
                "1348.30 ± 16.65",
                "-63.07 ± 0.93",
                "1413.55 ± 17.73",
                "838.35 ± 960.78",
                "2116.94 ± 38.00",
                "1323.61 ± 29.64",
            ),
        ),
        Variant(
            "vanilla multi-task, 1M per head",
            "a2c",
            published_returns=_table_2(
                "1480.89 ± 30.92",
                "2188.11 ± 21.28",
                "1525.09 ± 25.15",
                "1874.04 ± 14.02",
                "2276.11 ± 46.14",
                "1428.97 ± 7.06",
            ),
        ),
        Variant(
            "distillation by eq. 4 as printed, 1M per head",
            "distillation",
            (override(DistillationConfig, direction="student_teacher"),),
            after=_SCRATCH_6,
        ),
    ),
    preset="paper",
    num_envs=96,
    eval_every=300_000,
    steps=6_000_000,
    seeds=3,
    measure="return",
    curves_by_task=True,
    rollouts=20,
    published="Arora et al. 2018, Table 2: one run of each, 20 episodes, in an "
    "earlier version of the simulator and of HalfCheetah",
    claims=(
        Claim("vanilla multi-task, 1M per head", _SCRATCH_6.label),
        Claim(
            "vanilla multi-task, 1M per head",
            "distillation, 1M per head",
            why={
                ("cheetah6", "holds"): "With noise, a student does about as well as its teachers, "
                "which it only imitates. Without noise both come to states that training, which "
                "has noise, did not show them, and there the student is worse.",
            },
        ),
    ),
)
