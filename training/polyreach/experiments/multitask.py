"""The experiments of multitask-continuous-control-2018."""

from polyreach.experiments.experiment import Experiment, Variant

_SMALL_FOOT, _SMALL_LEG = "cheetah-smallfoot", "cheetah-smallleg"
_ALONE = ("--method-config.sharing", "none")


def _start_from(env: str) -> tuple[str, ...]:
    """The run from scratch on `env`, the first variant below."""
    return "--method-config.start", "{runs}/" + env + "-0-a2c-s{seed}"


_START = {_SMALL_FOOT: _start_from(_SMALL_LEG), _SMALL_LEG: _start_from(_SMALL_FOOT)}

MULTITASK_FINE_TUNING = Experiment(
    name="multitask-fine-tuning",
    title="A2C from scratch and fine-tuned from another HalfCheetah",
    paper="multitask-continuous-control-2018, Table 1",
    envs=(_SMALL_FOOT, _SMALL_LEG),
    variants=(
        Variant("scratch, 5M", "a2c", _ALONE, {_SMALL_FOOT: 1582.78, _SMALL_LEG: 1536.16}),
        Variant(
            "fine-tuned from the other, 1M",
            "fine-tuning",
            published={_SMALL_FOOT: 1600.31, _SMALL_LEG: 1532.70},
            env_options=_START,
            steps=1_000_000,
        ),
        Variant(
            "fine-tuned from the other, 5M",
            "fine-tuning",
            published={_SMALL_FOOT: 1493.02, _SMALL_LEG: 1568.66},
            env_options=_START,
        ),
        Variant(
            "fine-tuned from the other, actor's last two layers, 1M",
            "fine-tuning",
            ("--method-config.actor-layers", "2"),
            env_options=_START,
            steps=1_000_000,
        ),
    ),
    options=("--preset", "paper", "--num-envs", "16", "--eval-every", "50000"),
    steps=5_000_000,
    seeds=3,
    measure="return",
    published="multitask-continuous-control-2018, Table 1: one run of each, 20 episodes, in an "
    "earlier version of the simulator and of HalfCheetah",
)

MULTITASK = Experiment(
    name="multitask",
    title="Six HalfCheetahs: A2C from scratch, distilled, and with a head per task",
    paper="multitask-continuous-control-2018, Table 2",
    envs=("cheetah6",),
    variants=(
        Variant("scratch, 3M each", "a2c", _ALONE, {"cheetah6": 1276.28}, steps=18_000_000),
        Variant(
            "distillation, 1M per head",
            "distillation",
            ("--method-config.teachers", "{runs}/cheetah6-0-a2c-s{seed}"),
            {"cheetah6": 1162.95},
        ),
        Variant("vanilla multi-task, 1M per head", "a2c", published={"cheetah6": 1795.54}),
        Variant(
            "distillation by eq. 4 as printed, 1M per head",
            "distillation",
            (
                *("--method-config.teachers", "{runs}/cheetah6-0-a2c-s{seed}"),
                *("--method-config.direction", "student_teacher"),
            ),
        ),
    ),
    options=("--preset", "paper", "--num-envs", "96", "--eval-every", "300000"),
    steps=6_000_000,
    seeds=3,
    measure="return",
    published="multitask-continuous-control-2018, Table 2, mean over the six tasks: one run of "
    "each, 20 episodes, in an earlier version of the simulator and of HalfCheetah",
)
