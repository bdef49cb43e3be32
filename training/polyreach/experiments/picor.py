"""The experiments of picor-2023 on a branched robot: its parts, and its constants."""

from dataclasses import replace

from polyreach.experiments.experiment import Claim, Experiment, Variant, override
from polyreach.experiments.sac import (
    ADA_CLAIM,
    ADA_OFF,
    CONTROL,
    COR_CLAIM,
    COR_OFF,
    COR_OFF_NOTE,
    PICOR,
    RETURN,
    VIOLATED,
    as_many_updates,
)
from polyreach.methods.picor import PiCorConfig

PICOR_ABLATIONS = Experiment(
    name="picor-ablations",
    title="PiCor without adaptive weights and without correction, on a branched robot",
    paper="Bai et al. 2023, Table 2, Fig. 3 and 4",
    envs=("planar8",),
    variants=(PICOR, ADA_OFF, COR_OFF, replace(as_many_updates(4), control_of="")),
    eval_every=50_000,
    steps=300_000,
    seeds=3,
    measure="success",
    columns=(RETURN, *VIOLATED),
    note=COR_OFF_NOTE,
    claims=(
        replace(
            ADA_CLAIM,
            why={
                (
                    "planar8",
                    "open",
                ): "Adaptive weights: the temperatures of the four tasks are close "
                "to each other, so that the weights stay near a quarter."
            },
        ),
        replace(
            COR_CLAIM,
            why={
                (
                    "planar8",
                    "holds",
                ): "Correction: it is a step for all tasks, where the improvement "
                "before it is one for a single task."
            },
        ),
        Claim(
            "PiCor",
            CONTROL,
            why={
                ("planar8", "opposite"): "As many updates: every update of MTSAC is of actor and "
                "critics on all tasks, while PiCor's critics learn from one task at a time."
            },
        ),
    ),
)


def _sampling(label: str, common: bool, samples: int, penalty: float) -> Variant:
    settings = override(PiCorConfig, common_noise=common, baseline_samples=samples, penalty=penalty)
    return Variant(f"{label}, lambda {penalty:,.0f}", "picor", (settings,))


PICOR_SEARCH = Experiment(
    name="picor-search",
    title="How PiCor's constraint is sampled, and its weight lambda, which its paper does not give",
    paper="Bai et al. 2023",
    envs=("planar8",),
    variants=(
        _sampling("common random numbers", common=True, samples=1, penalty=100.0),
        _sampling("independent, one sample", common=False, samples=1, penalty=10.0),
        _sampling("independent, one sample", common=False, samples=1, penalty=100.0),
        _sampling("independent, one sample", common=False, samples=1, penalty=1000.0),
        _sampling("independent, 8 samples", common=False, samples=8, penalty=100.0),
        _sampling("independent, 8 samples", common=False, samples=8, penalty=1000.0),
        # added when 1000 was the best of these
        _sampling("independent, one sample", common=False, samples=1, penalty=1e4),
        _sampling("independent, one sample", common=False, samples=1, penalty=1e5),
    ),
    eval_every=50_000,
    steps=300_000,
    seeds=3,
    measure="success",
    columns=(RETURN, *VIOLATED),
)
