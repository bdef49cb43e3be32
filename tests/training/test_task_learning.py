"""Every method of the SAC family: it learns, it goes on exactly where it stopped, and compiled it
computes the same.
"""

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import LEARNING, SMALL, PointMasses, assert_same

from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.methods import METHODS
from polyreach.methods.off_policy import OffPolicyLearner, TaskConditionedConfig
from polyreach.runs.checkpoint import read_newest, save_checkpoint

TASK_METHODS = sorted(
    name for name, method in METHODS.items() if issubclass(method.config, TaskConditionedConfig)
)
MODULAR = {"embedding": 16, "layers": 2, "modules": 2, "width": 16}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, MODULAR if "soft" in name else {}) for name in TASK_METHODS},
    "dgrad-o, mean, random": ("dgrad-o", {"combine": "mean", "order": "random"}),
    "soft-modularization, deep": ("soft-modularization", MODULAR | {"layers": 4, "modules": 4}),
    "picor, no Ada": ("picor", {"adaptive_weights": False}),
    "picor, no Cor": ("picor", {"correction": False}),
    "ars": ("ars", {"resets": 1}),
    "mtsac, PopArt": ("mtsac", {"popart": True, "layer_norm": True}),
    "picor, PopArt": ("picor", {"popart": True}),
}
OF_METHOD: dict[str, dict[str, Any]] = {
    "ktm": {"transfer_updates": 5},
    "picor": {"task_steps": 4},
}


def learner_of(
    variant: str, env: PointMasses, total_steps: int, seed: int = 0, **settings: Any
) -> OffPolicyLearner:
    """`settings` that the method does not have are left out."""
    name, own = VARIANTS[variant]
    method = METHODS[name]
    known = {field.name for field in fields(method.config)}
    usable = {key: value for key, value in settings.items() if key in known}
    learner = method.learner(method.config(**usable | own), env, total_steps, seed)
    assert isinstance(learner, OffPolicyLearner)
    return learner


def score(learner: OffPolicyLearner) -> float:
    """Mean return of the policy without noise, on episodes it has not seen."""
    env = PointMasses(3, 40, horizon=10)

    def act(obs: torch.Tensor) -> torch.Tensor:
        action: torch.Tensor = learner.actor.mean_action(obs)  # type: ignore[operator]
        return action

    return float(play_episodes(env, act, seed=99).returns.mean())


def score_to_the_middle() -> float:
    """Return of a policy that is not conditioned on the task and goes to the centre."""
    env = PointMasses(3, 40, horizon=10)
    return float(play_episodes(env, lambda obs: -4 * obs, seed=99).returns.mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns(variant: str) -> None:
    settings: dict[str, Any] = {
        **LEARNING,
        "task_steps": 5,
        "constraint": -0.01,
        "transfer_updates": 100,
    }
    steps = 300 if variant.startswith(("ars", "picor", "soft")) else 200
    if variant == "picor, PopArt":
        steps = 450  # its statistics follow one task at a time
    total_steps = 4 * 3 * steps
    learner = learner_of(variant, PointMasses(3, 4, horizon=10), total_steps, **settings)
    if variant.startswith("picor"):
        total_steps //= 3
    start = score(learner)
    while learner.env_steps < total_steps:
        learner.step()
    found = score(learner)
    print(f"{variant}: {start:.2f} -> {found:.2f}")
    assert found > 0.5 * start
    assert found > score_to_the_middle() + 0.5


@pytest.mark.parametrize(
    ("variant", "stop"),
    [(variant, stop) for variant in VARIANTS for stop in (1, 6)]
    + [("ktm", 15), ("ktm", 21), ("picor", 15), ("dgrad-o, mean, random", 15), ("ars", 15)],
)
def test_a_stopped_run_resumes_bit_for_bit(variant: str, stop: int, tmp_path: Path) -> None:
    """Before learning; among the updates; of KTM-DRL also in the transfer and after it; of PiCor in
    the middle of a task's turn; of ARS before and after the reset, which is at the 13th step.
    """
    settings = SMALL | OF_METHOD.get(VARIANTS[variant][0], {}) | {"final_lr": 0.2}

    def fresh(seed: int = 0) -> OffPolicyLearner:
        env = PointMasses(3, 2, horizon=5, stop=0.15)
        return learner_of(variant, env, 150, seed, **settings)

    whole = fresh()
    before = [whole.step() for _ in range(stop)]
    if variant == "ktm":
        phases = {1: (True, 0), 6: (True, 0), 15: (False, 2), 21: (False, 5)}
        assert (whole.teaching, whole.transferred) == phases[stop]  # type: ignore[attr-defined]
    save_checkpoint(tmp_path, whole.env_steps, whole.state_dict())
    after = [whole.step() for _ in range(9)]
    assert any(set(metrics) - {"reward"} for metrics in after) and len(before) == stop
    # another seed, so that what is not restored shows
    resumed = fresh(seed=7)
    for _ in range(3):
        resumed.step()
    state, warnings = read_newest(tmp_path)
    assert state is not None and not warnings
    resumed.load_state_dict(state)
    assert_same([resumed.step() for _ in range(9)], after)
    assert_same(resumed.state_dict(), whole.state_dict(), variant)
    for part in ("env", "replay", "generator", "obs"):
        assert part in state


@pytest.mark.parametrize("method", TASK_METHODS)
def test_the_same_seed_is_the_same_run(method: str) -> None:
    settings = SMALL | OF_METHOD.get(method, {})
    runs = [learner_of(method, PointMasses(), 150, seed, **settings) for seed in (3, 3, 4)]
    metrics = [[run.step() for _ in range(5)] for run in runs]
    assert metrics[0] == metrics[1] != metrics[2]
    assert_same(runs[0].state_dict(), runs[1].state_dict())


@pytest.fixture
def compiled_anew() -> Iterator[None]:
    """Count from here what is compiled, and leave nothing compiled behind."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("method", "backend"),
    [
        ("mtsac", "aot_eager"),  # the same graphs, but run by PyTorch: no minute for C++
        *(
            pytest.param(method, "inductor", marks=pytest.mark.exhaustive)
            for method in ("mtsac", "dgrad-o", "picor")
        ),
    ],
)
def test_compiled_is_the_same(
    method: str, backend: str, compiled_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    if backend != "inductor":
        plain = torch.compile
        monkeypatch.setattr(
            torch, "compile", lambda f, mode, **options: plain(f, backend=backend, **options)
        )
    settings = SMALL | {"learning_starts": 2, "final_lr": 0.5}
    runs = [
        learner_of(method, PointMasses(), 300, **settings, compile=compile)
        for compile in (False, True)
    ]
    for _ in range(12):
        eager, compiled = (run.step() for run in runs)
        assert compiled == pytest.approx(eager, rel=1e-5, abs=1e-5)
    found = torch._dynamo.utils.counters
    assert found["stats"]["unique_graphs"] >= 2
    # a graph that breaks is compiled in pieces, and anew whenever a learning rate changes
    assert not found["graph_break"] and not found["recompile_limit"]
    for name in ("actor", "critic", "target_critic", "alpha"):
        pairs = zip(*(run.parts[name].parameters() for run in runs), strict=True)
        for one, other in pairs:
            assert torch.allclose(one, other, rtol=0, atol=1e-5)


def test_a_method_that_cannot_be_compiled_is_reported() -> None:
    with pytest.raises(UserError, match="compile"):
        learner_of("ktm", PointMasses(), 300, **SMALL, compile=True)
