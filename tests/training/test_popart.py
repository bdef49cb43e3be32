"""PopArt: statistics by hand, outputs that are preserved, and learning where the rewards of tasks
differ by a factor of a thousand; LayerNorm in the critics.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from task_fakes import LEARNING, PointMasses, ScaledRewards, make, random_batch, weights
from torch import Tensor
from torch.nn import functional

from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.methods import METHODS
from polyreach.methods.dgrad_o import DGradO, DGradOConfig
from polyreach.methods.learner import Learner
from polyreach.methods.mtsac import MTSAC, SACConfig
from polyreach.methods.ppo import PPO, PPOConfig
from polyreach.networks.mlp import TaskMLP, normalized_relu
from polyreach.networks.popart import LEAST_SIGMA, Head, PlainValues, PopArt

UNEQUAL = (1 / 32, 1.0, 32.0)  # magnitudes of the tasks' rewards
FAMILY = ("mtsac", "mtmhsac", "independent-sac", "dgrad-a", "soft-modularization", "picor", "ars")


def random_heads(tasks: int, members: int = 2, width: int = 5) -> list[Head]:
    return [
        (
            torch.randn(members, tasks, width, 1, dtype=torch.float64),
            torch.randn(members, tasks, 1, 1, dtype=torch.float64),
        )
        for _ in range(2)
    ]


def values_of(popart: PopArt, heads: list[Head], h: Tensor, tasks: Tensor | None = None) -> Tensor:
    """V of features h (M, T', B, width) with every head."""
    rows = slice(None) if tasks is None else tasks
    outputs = [(h @ weight[:, rows] + bias[:, rows])[..., 0] for weight, bias in heads]
    return torch.stack([popart.restore(n, tasks) for n in outputs])


def test_statistics_by_hand() -> None:
    popart = PopArt(2, rate=0.25)
    popart.update(torch.tensor([[1.0, 3.0], [10.0, 10.0]]), [])
    assert popart.mean.flatten().tolist() == [2.0, 10.0]
    # standard deviations 1 and 0
    assert popart.sigma().flatten().tolist() == pytest.approx([1.0, LEAST_SIGMA])
    popart.update(torch.tensor([[6.0, 6.0], [10.0, 14.0]]), [])
    # half and half: E[y] = 4 and 11, E[y^2] = (5 + 36) / 2 and (100 + 148) / 2
    assert popart.mean.flatten().tolist() == [4.0, 11.0]
    assert popart.var.flatten().tolist() == pytest.approx([20.5 - 16.0, 124.0 - 121.0])
    for _ in range(3):
        popart.update(torch.tensor([[0.0, 0.0], [11.0, 11.0]]), [])
    # 1/3, then the rate of 1/4 twice
    assert float(popart.mean[0]) == pytest.approx(4.0 * 2 / 3 * 3 / 4 * 3 / 4)
    assert float(popart.mean[1]) == 11.0


def test_statistics_of_other_tasks_stay() -> None:
    popart, heads = PopArt(3, 0.1), random_heads(3)
    popart.update(torch.randn(3, 8), heads)
    before = popart.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    old = [(weight.clone(), bias.clone()) for weight, bias in heads]
    popart.update(torch.randn(1, 8), heads, torch.tensor([1]))
    for name, value in popart.state_dict().items():
        changed = (value != before[name]).flatten().tolist()
        assert changed == [False, True, False], name
    for new, kept in zip(heads, old, strict=True):
        for one, other in zip(new, kept, strict=True):
            changed = (one != other).flatten(2).any(dim=2).any(dim=0)
            assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_an_update_preserves_outputs_precisely(scale: float) -> None:
    torch.manual_seed(0)
    popart, heads = PopArt(3, 0.1), random_heads(3)
    h = torch.randn(2, 3, 50, 5, dtype=torch.float64)
    popart.update(torch.randn(3, 64), heads)
    for row in (None, torch.tensor([2, 0]), None):
        chosen = h if row is None else h[:, row]
        before, n = values_of(popart, heads, chosen, row), heads[0][1].clone()
        sigma = popart.sigma(row)
        targets = scale * (5 + torch.randn(len(chosen[0]), 64))
        popart.update(targets, heads, row)
        assert torch.allclose(values_of(popart, heads, chosen, row), before, rtol=1e-9, atol=1e-9)
        # not because nothing changed
        assert not torch.allclose(popart.sigma(row), sigma, rtol=1e-3)
        assert not torch.allclose(heads[0][1], n, rtol=1e-3)


def test_the_first_targets_set_the_statistics_and_leave_the_layer() -> None:
    popart, heads = PopArt(2, 0.1), random_heads(2)
    h = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    # until then values are next to nothing
    assert float(values_of(popart, heads, h).abs().max()) < 1e-2
    before = [weight.clone() for weight, _ in heads]
    popart.update(1000 + 100 * torch.randn(2, 64), heads)
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, heads, strict=True))


@pytest.mark.parametrize("name", FAMILY)
def test_critics_keep_their_values_when_statistics_move(name: str) -> None:
    method: Any = METHODS[name]
    small = {"embedding": 16, "width": 16} if "soft" in name else {}
    learner: Any = make(method.learner, replace(method.settings, **small), popart=True)
    batch = random_batch(3, 20)
    learner.critic.values.update(30 * torch.randn(3, 20) - 7, learner.value_heads)
    critics = (learner.critic, learner.target_critic)
    learner.target_critic.body.head.bias.data += 0.3
    before = [critic(batch.obs, batch.action) for critic in critics]
    learner.critic.values.update(400 * torch.randn(3, 20) + 90, learner.value_heads)
    for critic, old in zip(critics, before, strict=True):
        assert torch.allclose(critic(batch.obs, batch.action), old, rtol=1e-5, atol=1e-3)
    assert float(learner.critic.values.sigma().min()) > 100
    assert not torch.allclose(before[0], before[1])


def test_errors_are_divided_by_sigma() -> None:
    plain, popart = (make(MTSAC, SACConfig(), popart=on) for on in (False, True))
    popart.critic.values.update(
        torch.tensor([[0.0, 2.0], [0.0, 20.0], [0.0, 0.2]]), popart.value_heads
    )
    q, y = torch.randn(2, 3, 5), torch.randn(3, 5)
    obs = torch.zeros(3, 5, 2)
    actor = (torch.zeros(3, 5, 2), torch.randn(3, 5))
    losses = []
    for learner in (plain, popart):
        learner.loss_critic = learner.critic.forward = lambda *_: q  # type: ignore
        learner.loss_actor = lambda *_: actor  # type: ignore
        batch = random_batch(3)._replace(obs=obs)
        losses.append(learner.critic_losses(batch, y, None)[0])
        losses.append(learner.actor_losses(batch, obs, None)[0])
    sigma = torch.tensor([1.0, 10.0, 0.1])
    assert torch.allclose(losses[2], losses[0] / sigma**2, rtol=1e-5)
    assert torch.allclose(losses[3], losses[1] / sigma, rtol=1e-5)


def test_the_value_function_of_ppo_keeps_its_values_when_statistics_move() -> None:
    config = PPOConfig(hidden=(8, 8), batch_steps=60, minibatch=4, popart=True)
    learner = PPO(config, PointMasses(), 600, 0)
    learner.step()
    layers, x = learner.critic.layers, torch.randn(3, 20, 2)
    before = learner.value(layers(learner.critic.weights()), x).detach()
    assert float((before[0] - before[1]).abs().max()) > 1e-3, "a last layer per task"
    sigma = learner.values.sigma()
    learner.values.update(400 * torch.randn(3, 20) + 90, [learner.critic.head()])
    after = learner.value(layers(learner.critic.weights()), x)
    assert torch.allclose(after, before, rtol=1e-5, atol=1e-3)
    assert (learner.values.sigma() > 5 * torch.as_tensor(sigma)).all()


def returns_of(learner: Learner) -> list[float]:
    """Mean return of every task without noise and without factors; -1.5 is good, 0 impossible."""
    episodes = play_episodes(PointMasses(3, 40, horizon=10), learner.policy, seed=99)
    return episodes.returns.mean(dim=1).tolist()


def train(method: str, steps: int, **settings: Any) -> list[float]:
    env = ScaledRewards(UNEQUAL, 4, horizon=10)
    learner = METHODS[method].learner(METHODS[method].config(**settings), env, steps, 0)
    while learner.env_steps < steps:
        learner.step()
    found = returns_of(learner)
    print(method, settings, [round(value, 2) for value in found])
    return found


ON_POLICY: dict[str, Any] = {
    "hidden": (32, 32),
    "batch_steps": 480,
    "minibatch": 32,
    "epochs": 5,
    "lr": 3e-3,
    "gamma": 0.8,
    "one_hot": True,
}


@pytest.mark.parametrize(
    ("method", "steps", "settings"), [("mtsac", 4800, LEARNING), ("ppo", 7200, ON_POLICY)]
)
def test_all_tasks_are_learned_where_rewards_differ_a_thousandfold(
    method: str, steps: int, settings: dict[str, Any]
) -> None:
    without = train(method, steps, **settings)
    assert min(train(method, steps, **settings, popart=True)) > -3.0
    assert without[0] < -4.0, "the task of the smallest rewards is not learned without it"


def test_surgery_with_popart_is_refused() -> None:
    with pytest.raises(UserError, match="popart is on, but gradient surgery has no last layer"):
        make(DGradO, DGradOConfig(), popart=True)


def test_layer_norm_is_in_the_critics_only() -> None:
    normed, plain = (make(MTSAC, SACConfig(), layer_norm=on) for on in (True, False))
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            weights(normed.critic) + weights(normed.actor),
            weights(plain.critic) + weights(plain.actor),
            strict=True,
        )
    )
    batch = random_batch(3)
    assert torch.equal(normed.actor.mean_action(batch.obs), plain.actor.mean_action(batch.obs))
    for one, other in ((normed.critic, plain.critic), (normed.target_critic, plain.target_critic)):
        found = one(batch.obs, batch.action)
        assert not torch.allclose(found, other(batch.obs, batch.action), atol=1e-3)
        layer = torch.nn.LayerNorm(16, elementwise_affine=False)
        body: Any = other.body
        assert isinstance(body, TaskMLP)
        x = torch.cat([batch.obs, batch.action, body.z[:, None].expand(3, 5, 3)], dim=-1)
        h = layer(body.layers[0](x.expand(2, *x.shape))).relu()
        assert torch.allclose(found, body.head(h)[..., 0], atol=1e-5)


def test_features_are_normalised_before_the_activation() -> None:
    x = torch.tensor([[1.0, 2.0, 6.0]])
    # mean 3, variance 14 / 3
    expected = functional.relu((x - 3) / (14 / 3 + 1e-5) ** 0.5)
    assert torch.allclose(normalized_relu(x), expected, atol=1e-6)


def test_the_value_function_of_ppo_has_layer_norm() -> None:
    config = PPOConfig(hidden=(8,), batch_steps=60)
    normed, plain = (
        PPO(replace(config, layer_norm=on), PointMasses(), 600, 0) for on in (True, False)
    )
    x = torch.randn(3, 7, 2)
    weight, bias, head, offset, _ = plain.critic.layers(plain.critic.weights())
    h = torch.tanh(torch.nn.LayerNorm(8, elementwise_affine=False)(x @ weight + bias))
    found = normed.value(normed.critic.layers(normed.critic.weights()), x)
    assert torch.allclose(found, (h @ head + offset)[..., 0], atol=1e-5)
    assert torch.equal(normed.actor.mean_action(x), plain.actor.mean_action(x))


def test_both_are_off_by_default() -> None:
    # a method of its own, of rewards as they are
    for method in (method for name, method in METHODS.items() if name != "ppo-fine-tuning"):
        for settings in (method.settings, *method.tuned.values()):
            options: Any = settings
            assert not getattr(options, "popart", False)
            assert not getattr(options, "layer_norm", False)
    assert type(make(MTSAC, SACConfig()).critic.values) is PlainValues
