"""PiCor: weights, constraint and correction by hand; which weights an iteration changes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from task_fakes import PointMasses, assert_same, make, step_plainly, weights
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from polyreach.commands.train import train_config
from polyreach.errors import UserError
from polyreach.methods import picor
from polyreach.methods.picor import PiCor, PiCorConfig, constraint_violation, task_weights
from polyreach.networks.gaussian import normal_divergence
from polyreach.runs.config import RunConfig
from polyreach.storage.replay import Batch


def begun(steps: int = 3, **changes: Any) -> PiCor:
    """A learner that has made its first updates."""
    learner = make(PiCor, PiCorConfig(), **changes)
    for _ in range(steps):
        learner.step()
    assert learner.updates > 0
    return learner


def spoil(learner: PiCor, amount: float = 0.3, seed: int = 0) -> None:
    """Change the policy at random, as a step in favour of another task might."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=draw))


def advantages(learner: PiCor, obs: Tensor, noise: Tensor, value: Tensor) -> Tensor:
    """Sample by sample: A^{pi_t}(s, a) of the policy of now, mean by task (N,)."""
    means = []
    for task in range(learner.env.tasks):
        row = torch.tensor([task])
        total = torch.zeros(())
        for sample in range(obs.shape[1]):
            state = obs[task, sample][None, None]
            mean, log_std = learner.actor.distribution(state, row)
            action = torch.tanh(mean + log_std.exp() * noise[task, sample])
            q = learner.critic(state, action, row)[:, 0, 0]
            total = total + q.min() - value[task, sample]
        means.append(total / obs.shape[1])
    return torch.stack(means)


def test_weights_are_a_softmax_of_the_temperatures() -> None:
    alpha = torch.tensor([0.1, 0.2, 0.4])
    total = sum(math.exp(x / 0.1) for x in (0.1, 0.2, 0.4))
    expected = [math.exp(x / 0.1) / total for x in (0.1, 0.2, 0.4)]
    assert task_weights(alpha, 0.1).tolist() == pytest.approx(expected, rel=1e-5)
    # smooth where tau is large
    assert task_weights(alpha, 1e4).tolist() == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_the_constraint_on_both_sides() -> None:
    weight = torch.tensor([0.25, 0.75])
    # c (1 - gamma) = -0.02; 0.25 * 1 - 0.75 * 0.4 = -0.05
    short = constraint_violation(torch.tensor([1.0, -0.4]), weight, -0.2, 0.9)
    assert float(short) == pytest.approx(0.03, rel=1e-4)
    # 0.25 * 1 - 0.75 * 0.3 = 0.025 and 0.25 - 0.75 * 0.35 = -0.0125 are both allowed
    for second in (-0.3, -0.35):
        assert constraint_violation(torch.tensor([1.0, second]), weight, -0.2, 0.9) == 0
    assert constraint_violation(torch.zeros(2), weight, 0.0, 0.9) == 0


def test_divergence_is_that_of_torch_distributions() -> None:
    draw = torch.Generator().manual_seed(0)
    mean, log_std, other_mean, other_log_std = torch.randn(4, 3, 5, 2, generator=draw)
    found = normal_divergence(mean, log_std, other_mean, other_log_std)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(other_mean, other_log_std.exp()))
    assert torch.allclose(found, expected.sum(dim=-1), rtol=1e-4, atol=1e-5)
    # the other way round is another number
    swapped = normal_divergence(other_mean, other_log_std, mean, log_std)
    assert (found - swapped).abs().max() > 0.1
    assert normal_divergence(mean, log_std, mean, log_std).abs().max() < 1e-6
    # by hand: KL(N(1, 2) || N(0, 1)) = log(1/2) + (4 + 1) / 2 - 1/2
    one = normal_divergence(
        torch.tensor([1.0]), torch.tensor([2.0]).log(), torch.zeros(1), torch.zeros(1)
    )
    assert float(one) == pytest.approx(2 - math.log(2), rel=1e-5)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_unchanged_policy_has_advantage_zero(
    seed: int, soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = begun(
        8,
        seed=seed,
        constraint=0.0,
        soft_advantage=soft,
        common_noise=True,
        baseline_samples=1 + seed,
    )
    seen: list[Tensor] = []

    def recorded(advantage: Tensor, *rest: Any) -> Tensor:
        seen.append(advantage.detach())
        return constraint_violation(advantage, *rest)

    monkeypatch.setattr(picor, "constraint_violation", recorded)
    before = weights(learner.actor)
    found = learner.correct_policy(learner.prepare_correction())
    assert len(seen) == 1 and seen[0].tolist() == [0.0, 0.0, 0.0]
    assert found["violated"] == found["c_tilde"] == 0
    assert_same(weights(learner.actor), before)


def test_a_change_of_temperature_is_not_a_violation() -> None:
    learner = begun(8, soft_advantage=True, common_noise=True)
    prepared = learner.prepare_correction()
    learner.alpha.log_alpha.data += 1.0
    assert learner.correct_policy(prepared)["c_tilde"] == 0


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("c", [-0.02, -300.0])
def test_the_constraint_by_hand(
    c: float, common: bool, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = begun(8, common_noise=common, baseline_samples=samples, constraint=c, temperature=0.2)
    tasks, states, actions = 3, 8, 2
    alpha = np.array([0.1, 0.3, 0.2])
    learner.alpha.log_alpha.data = torch.tensor(alpha[:, None], dtype=torch.float32).log()
    # what is drawn, and two critics that can be computed by hand, neither of which is always less
    rng = np.random.default_rng(0)
    noise_t = rng.normal(size=(tasks, samples, states, actions)).astype(np.float32)
    noise_phi = noise_t if common else rng.normal(size=(tasks, 1, states, actions))
    noise_phi = noise_phi.astype(np.float32)
    drawn = [torch.tensor(x).flatten(1, 2) for x in (noise_t, noise_phi)]
    monkeypatch.setattr(learner, "normal", lambda *_: drawn.pop(0))

    def twins(q: Callable[..., Any], obs: Any, action: Any) -> list[Any]:
        return [-((action - obs) ** 2).sum(-1), q(3 * obs[..., 0]) - action[..., 1]]

    monkeypatch.setattr(
        learner.critic, "forward", lambda obs, action: torch.stack(twins(torch.sin, obs, action))
    )

    def expectation(obs: np.ndarray[Any, Any], noise: np.ndarray[Any, Any]) -> list[float]:
        """E_{s, a}[min Q(s, a)] of each task, of the policy as it is now."""
        means = []
        for task in range(tasks):
            total = 0.0
            for state in range(states):
                at = torch.tensor(obs[task, state])[None, None]
                normal = learner.actor.distribution(at, torch.tensor([task]))
                mean, log_std = (x.detach().numpy()[0, 0] for x in normal)
                for sample in noise[task]:
                    action = np.tanh(mean + np.exp(log_std) * sample[state])
                    total += min(twins(np.sin, obs[task, state], action))
            means.append(total / (states * noise.shape[1]))
        return means

    prepared = learner.prepare_correction()
    obs = prepared.obs.numpy()
    before = expectation(obs, noise_t)
    spoil(learner, seed=1)
    now = expectation(obs, noise_phi)
    weight = np.exp(alpha / 0.2) / np.exp(alpha / 0.2).sum()
    gap = c * (1 - 0.99) - sum(w * (q - v) for w, q, v in zip(weight, now, before, strict=True))
    assert gap > 0.01 if c == -0.02 else gap < -0.01
    found = learner.correct_policy(prepared)
    assert float(found["c_tilde"]) == pytest.approx(max(0.0, gap), abs=1e-5)
    assert bool(found["violated"]) == (gap > 0)
    for task, expected in enumerate(weight):
        assert float(found[f"weight_target_{task}"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("common", "low", "high"), [(False, 60, 140), (True, 0, 0)])
def test_samples_of_an_unchanged_policy_violate_the_constraint_in_half_of_the_updates(
    common: bool, low: int, high: int
) -> None:
    learner = begun(8, common_noise=common, constraint=0.0)
    learner.actor_optimizer = step_plainly(learner.actor.parameters(), 0.0)
    violated = sum(
        bool(learner.correct_policy(learner.prepare_correction())["violated"]) for _ in range(200)
    )
    assert low <= violated <= high


def test_evaluations_record_the_means_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = begun(4)
    learner.take_means()
    assert learner.take_means() == {}
    seen: list[dict[str, float]] = []
    correct = learner.correct_policy

    def recorded(before: Any) -> dict[str, Tensor]:
        found = correct(before)
        seen.append({name: float(value) for name, value in found.items()})
        return found

    monkeypatch.setattr(learner, "correct_policy", recorded)
    for _ in range(7):
        learner.step()
    # a checkpoint between two evaluations
    resumed = begun(2, seed=5)
    resumed.load_state_dict(learner.state_dict())
    assert len(seen) == 7 and 0 < sum(row["violated"] for row in seen) < 7
    expected = {name: np.mean([row[name] for row in seen]) for name in seen[0]}
    assert expected.keys() == {
        "violated",
        "c_tilde",
        *(f"weight_target_{task}" for task in range(3)),
    }
    for each in (learner, resumed):
        assert each.take_means() == pytest.approx(expected, rel=1e-6)
        assert each.take_means() == {}
    assert make(PiCor, PiCorConfig(correction=False)).take_means() == {}


def test_runs_of_earlier_versions_had_common_random_numbers() -> None:
    _, config = train_config(["picor", "planar8"])
    values = config.to_json()
    assert RunConfig.from_json(values) == config
    for name in ("common_noise", "baseline_samples"):
        del values["method_config"][name]
    old = RunConfig.from_json(values).method_config
    assert isinstance(old, PiCorConfig) and old.common_noise and old.baseline_samples == 1


def test_soft_advantages_count_the_entropy() -> None:
    learner = begun(8, soft_advantage=True, common_noise=True)
    learner.alpha.log_alpha.data = torch.tensor([[0.1], [0.3], [0.2]]).log()
    obs, noise, _, value = learner.prepare_correction()
    with torch.no_grad():
        for task, alpha in enumerate((0.1, 0.3, 0.2)):
            row = torch.tensor([task])
            mean, log_std = learner.actor.distribution(obs[task][None], row)
            u = mean + log_std.exp() * noise[task]
            drawn = TransformedDistribution(
                Normal(mean, log_std.exp()), TanhTransform(cache_size=1)
            )
            q = learner.critic(obs[task][None], torch.tanh(u), row).amin(dim=0)[0]
            expected = q - alpha * drawn.log_prob(torch.tanh(u))[0].sum(dim=-1)
            assert torch.allclose(value[task], expected, atol=1e-4)
            assert float((expected - q).abs().max()) > 0.1


def test_a_policy_within_the_constraint_is_not_corrected() -> None:
    settings: dict[str, Any] = {"learning_starts": 2, "task_steps": 2}
    loose = make(PiCor, PiCorConfig(constraint=-1e6), **settings)
    without = make(PiCor, PiCorConfig(correction=False), **settings)
    for _ in range(8):
        metrics, plain = loose.step(), without.step()
        assert metrics.pop("violated") == metrics.pop("c_tilde") == 0.0
        assert sum(metrics.pop(f"weight_target_{task}") for task in range(3)) == pytest.approx(1)
        assert metrics == plain
        # the correction has looked at states of all tasks: give both the same random numbers again
        without.generator.set_state(loose.generator.get_state())
    for name in ("actor", "critic", "alpha", "actor_optimizer", "replay"):
        assert_same(loose.parts[name].state_dict(), without.parts[name].state_dict(), name)


def test_a_step_of_the_correction_descends_its_objective() -> None:
    learner = begun(
        8,
        constraint=-0.001,
        penalty=7.0,
        temperature=0.2,
        correction_steps=2,
        common_noise=True,
        grad_clip=1e6,
    )
    learner.alpha.log_alpha.data = torch.tensor([[0.1], [0.3], [0.2]]).log()
    parameters = list(learner.actor.parameters())
    prepared = learner.prepare_correction()
    obs, noise, _, value = prepared
    spoil(learner)
    weight = torch.softmax(torch.tensor([0.1, 0.3, 0.2]) / 0.2, dim=0)
    improved = [x.detach() for x in learner.actor.distribution(obs)]
    start = weights(learner.actor)
    rate = 0.05
    violations = []
    for _ in range(2):
        mean, log_std = learner.actor.distribution(obs)
        old = Normal(improved[0], improved[1].exp())
        divergence = kl_divergence(Normal(mean, log_std.exp()), old).sum(dim=-1).mean()
        gap = -0.001 * 0.01 - (weight * advantages(learner, obs, noise, value)).sum()
        violations.append(float(gap.detach()))
        loss = divergence + 0.5 * 7.0 * gap.clamp(min=0) ** 2
        with torch.no_grad():
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter.sub_(rate * gradient)
    expected = weights(learner.actor)
    assert violations[0] > violations[1] > 1e-3
    with torch.no_grad():
        for parameter, old_value in zip(parameters, start, strict=True):
            parameter.copy_(old_value)
    learner.actor_optimizer = step_plainly(parameters, rate)
    found = learner.correct_policy(prepared)
    assert float(found["c_tilde"]) == pytest.approx(violations[0], rel=1e-4)
    for new, wanted, old_value in zip(parameters, expected, start, strict=True):
        assert torch.allclose(new, wanted, atol=1e-6)
        assert not torch.equal(wanted, old_value)


def test_the_correction_restores_the_constraint() -> None:
    learner = begun(8, correction_steps=60, actor_lr=3e-3, constraint=-0.01)
    body: Any = learner.critic.body
    body.head.weight.data *= 20
    prepared = learner.prepare_correction()
    obs, noise, _, value = prepared
    before = [x.detach() for x in learner.actor.distribution(obs)]
    spoil(learner)
    improved = [x.detach() for x in learner.actor.distribution(obs)]
    spoiled = float(normal_divergence(*before, *improved).mean())
    gaps = []
    for _ in range(2):
        with torch.no_grad():
            gaps.append(-float(advantages(learner, obs, noise, value).mean()))
        learner.correct_policy(prepared)
    assert gaps[0] > 0.05 and gaps[1] < 0.25 * gaps[0]
    # not by more than it needs: it stays nearer to the improved policy than that was moved
    with torch.no_grad():
        moved = normal_divergence(*learner.actor.distribution(obs), *improved).mean()
    assert 1e-5 < float(moved) < 0.5 * spoiled


def test_only_the_drawn_task_moves() -> None:
    learner = begun(3, task_steps=4)
    env = learner.env
    assert isinstance(env, PointMasses)
    for _ in range(20):
        position, alpha = env.position.clone(), learner.alpha().detach().clone()
        steps = learner.env_steps
        rings = [ring.clone() for ring in learner.replay.store]
        learner.step()
        for task in range(3):
            own = task == learner.task
            assert (not torch.equal(position[task], env.position[task])) == own
            assert (not torch.equal(rings[task], learner.replay.store[task])) == own
            assert bool(alpha[task] != learner.alpha()[task]) == own
        assert torch.equal(learner.obs, env.position)
        assert learner.env_steps == steps + env.envs_per_task


@pytest.mark.parametrize("correction", [False, True])
def test_the_critics_learn_the_drawn_task_only(
    correction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = begun(4, task_steps=1, correction=correction)
    seen: list[list[int] | None] = []
    sample = learner.sample

    def recorded(tasks: list[int] | None = None) -> Batch:
        seen.append(tasks)
        return sample(tasks)

    monkeypatch.setattr(learner, "sample", recorded)
    for _ in range(6):
        seen.clear()
        learner.step()
        # the correction looks at all tasks
        assert seen == [[learner.task], *([None] if correction else [])]


def test_the_task_is_drawn_every_k_iterations() -> None:
    env = PointMasses(4)
    learner = make(PiCor, PiCorConfig(correction=False), env, task_steps=3, learning_starts=2)
    learner.step()
    assert env.stepped == [[0, 1, 2, 3]]
    drawn = []
    for _ in range(120):
        learner.step()
        drawn.append(learner.task)
    assert env.stepped[1:] == [[task] for task in drawn]
    blocks = [drawn[start : start + 3] for start in range(0, 120, 3)]
    assert all(len(set(block)) == 1 for block in blocks)
    counts = [sum(block[0] == task for block in blocks) for task in range(4)]
    # 40 draws, 10 of each expected: within four standard deviations
    assert all(abs(count - 10) < 11 for count in counts) and min(counts) >= 3


def test_the_first_update_is_of_a_drawn_task() -> None:
    first = []
    for seed in range(12):
        learner = make(PiCor, PiCorConfig(correction=False), seed=seed, learning_starts=2)
        learner.step()
        assert learner.updates == 1
        first.append(int((learner.alpha().detach() != 1.0).nonzero()[0, 0]))
    assert set(first) == {0, 1, 2}


def test_without_adaptive_weights_all_tasks_have_equal_weight() -> None:
    for adaptive, expected in ((True, 0.8), (False, 1 / 3)):
        learner = begun(3, adaptive_weights=adaptive)
        learner.alpha.log_alpha.data = torch.tensor([[2.0], [2.0 + math.log(8)], [2.0]]).log()
        found = learner.correct_policy(learner.prepare_correction())
        assert float(found["weight_target_1"]) == pytest.approx(expected, rel=1e-5)


def test_a_temperature_changes_equally_fast_however_often_its_task_is_drawn() -> None:
    learner = make(PiCor, PiCorConfig(alpha_lr=1e-3))
    moved = {}
    for task, updates_before in ((0, 0), (1, 300), (2, 0)):
        learner.task = 0
        for _ in range(updates_before):
            learner.update_alpha(torch.tensor([[3.0]]), torch.tensor([0]))
        learner.task = task
        start = float(learner.alpha.log_alpha[task].detach())
        for _ in range(10):
            learner.update_alpha(torch.tensor([[3.0]]), torch.tensor([task]))
        moved[task] = float(learner.alpha.log_alpha[task].detach()) - start
    # Adam under a constant gradient: 1e-3 a step
    assert moved == pytest.approx(dict.fromkeys(range(3), 0.01), rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_steps": 0}, "task_steps is 0, but must be at least 1"),
        ({"correction_steps": 0}, "correction_steps is 0, but must be at least 1"),
        ({"baseline_samples": 0}, "baseline_samples is 0, but must be at least 1"),
        ({"penalty": -1.0}, "penalty is -1, but must be at least 0"),
        ({"temperature": 0.0}, "temperature is 0, but must be at least 1e-06"),
        ({"constraint": 0.1}, "constraint is 0.1, but must be at most 0"),
        ({"constraint": math.nan}, "constraint is nan, but must be"),
        ({"constraint": -math.inf}, "constraint is -inf, but must be"),
    ],
)
def test_illegal_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PiCorConfig(**changes)
