"""The papers' experiments, by name: what `polyreach report EXPERIMENT` can run."""

from polyreach.errors import UserError
from polyreach.experiments.digrad import DIGRAD_FIG4, DIGRAD_TUNED
from polyreach.experiments.experiment import Experiment
from polyreach.experiments.imitation import IMITATION_MT10, IMITATION_MT50
from polyreach.experiments.multitask import MULTITASK, MULTITASK_FINE_TUNING
from polyreach.experiments.picor import PICOR_ABLATIONS, PICOR_SEARCH
from polyreach.experiments.reinforcement import RL_MT10, RL_MT50
from polyreach.experiments.sac import SAC_CHEETAHS, SAC_MT3, SAC_MT10, SAC_PLANAR8
from polyreach.experiments.specialization import (
    SPECIALIZATION,
    SPECIALIZATION_BIPED,
    SPECIALIZATION_MASS,
)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        DIGRAD_FIG4,
        DIGRAD_TUNED,
        SAC_MT3,
        SAC_CHEETAHS,
        SAC_MT10,
        SAC_PLANAR8,
        PICOR_SEARCH,
        PICOR_ABLATIONS,
        SPECIALIZATION,
        SPECIALIZATION_BIPED,
        SPECIALIZATION_MASS,
        MULTITASK_FINE_TUNING,
        MULTITASK,
        IMITATION_MT10,
        IMITATION_MT50,
        RL_MT10,
        RL_MT50,
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment called `name`; UserError with the legal names otherwise."""
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment '{name}' (legal: {', '.join(EXPERIMENTS)})")
    return EXPERIMENTS[name]
