"""Proximal policy optimisation on several tasks: what is collected, and what becomes of it, against
arithmetic by hand.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, ScaledRewards
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.methods.ppo import PPO, Batch, PPOConfig
from polyreach.networks.gaussian import normal_log_prob
from polyreach.networks.per_task_weights import SplitMLP
from polyreach.storage.rollout import Rollout, by_task

TINY = PPOConfig(hidden=(8, 8), batch_steps=60, minibatch=4, epochs=2, lr=1e-2)
UNEQUAL = (1.0, 100.0, 0.01)  # magnitudes of the tasks' rewards


def learner_of(
    config: PPOConfig = TINY, env: TaskEnv | None = None, seed: int = 0, **changes: Any
) -> PPO:
    """On three point masses by default; a run of 600 steps."""
    return PPO(replace(config, **changes), env or PointMasses(), 600, seed)


def test_a_loss_by_hand() -> None:
    learner = learner_of(env=PointMasses(1), clip=0.2)
    mean, log_std = torch.tensor([[[0.5, 0.0]]]), torch.zeros(1, 1, 2)
    learner.actor.outputs = lambda layers, x: (mean.expand(1, 4, 2), log_std)  # type: ignore[method-assign]
    learner.critic.run = lambda layers, x: torch.full((1, 4, 1), 2.0)  # type: ignore[method-assign]
    action = torch.zeros(1, 4, 2)
    log_prob = normal_log_prob(action, mean, log_std)
    ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5]])
    batch = Batch(
        torch.zeros(1, 4, 2),
        torch.zeros(1, 4, 2),
        action,
        log_prob - ratio.log(),
        torch.tensor([[1.0, -1.0, 1.0, -1.0]]),
        torch.tensor([[0.0, 1.0, 2.0, 5.0]]),
    )
    actual = learner.losses(batch, *(net.weights() for net in learner.nets))[:, 0].tolist()
    # min(r A, clip(r) A): 1.2, -1.5, 0.5, -0.8
    assert actual[0] == pytest.approx(0.6 / 4, abs=1e-6)
    assert actual[1] == pytest.approx((4 + 1 + 0 + 9) / 4)
    assert actual[2] == pytest.approx(1 + math.log(2 * math.pi))


def test_a_change_of_the_mean_action_costs() -> None:
    learner = learner_of(env=PointMasses(1), smoothness=0.5)
    # the mean action is the observation
    learner.actor.outputs = lambda layers, x: (x, torch.zeros(1, 1, 2))  # type: ignore[method-assign]
    zeros = torch.zeros(1, 3)
    x = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]]])
    next_x = torch.tensor([[[1.0, 4.0], [3.0, -1.0], [5.0, 5.0]]])
    batch = Batch(x, next_x, x, zeros, zeros, zeros)
    actual = learner.losses(batch, *(net.weights() for net in learner.nets))
    # 0.5 (4 + 10 + 0) / 3
    assert float(actual[0].detach()) == pytest.approx(7 / 3)


class Recorder(PPO):
    """Records rollouts, batches and minibatches."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rollouts: list[Rollout] = []
        self.batches: list[Batch] = []
        self.minibatches: list[Batch] = []

    def batch_of(self, rollout: Rollout) -> Batch:
        self.rollouts.append(rollout)
        self.batches.append(super().batch_of(rollout))
        return self.batches[-1]

    def update_on(self, batch: Batch) -> Tensor:
        self.minibatches.append(batch)
        return super().update_on(batch)


def recorder(env: TaskEnv | None = None, **changes: Any) -> Recorder:
    return Recorder(replace(TINY, **changes), env or PointMasses(), 600, 0)


def test_a_rollout_keeps_the_states_before_restarts() -> None:
    env = PointMasses(3, 2, horizon=3, stop=0.4)
    learner = learner_of(env=env, batch_steps=250)
    first = learner.obs.clone()
    rollout = learner.collect()
    # 250 steps are 41 of six environments
    assert learner.steps == 41 and learner.env_steps == 246
    assert rollout.obs.shape == (41, 3, 2, 2) and torch.equal(rollout.obs[0], first)
    moved = (rollout.obs + 0.25 * rollout.action.clamp(-1, 1)).clamp(-1, 1)
    assert torch.allclose(rollout.next_obs, moved, atol=1e-6)
    distance = (rollout.next_obs - env.target).norm(dim=-1)
    assert torch.equal(rollout.terminated, distance < 0.4)
    assert torch.allclose(rollout.reward, -distance, atol=1e-6)
    age = torch.zeros(3, 2)
    for row in range(41):
        age += 1
        assert torch.equal(rollout.ended[row], rollout.terminated[row] | (age >= 3))
        age[rollout.ended[row]] = 0
    on = ~rollout.ended[:-1]
    assert torch.equal(rollout.obs[1:][on], rollout.next_obs[:-1][on])
    assert (rollout.obs[1:] != rollout.next_obs[:-1]).any(dim=-1)[~on].all()
    assert 0 < int(rollout.terminated.sum()) < int(rollout.ended.sum())
    # the next rollout goes on where this one stopped
    left = learner.obs.clone()
    assert torch.equal(learner.collect().obs[0], left)


def test_actions_are_drawn_from_the_policy() -> None:
    learner = learner_of(batch_steps=60, initial_std=0.3)
    learner.generator.manual_seed(5)
    state = learner.generator.get_state()
    rollout = learner.collect()
    learner.generator.set_state(state)
    noise = learner.normal(10, 3, 2, 2)
    layers = learner.actor.net.layers(learner.actor.net.weights())
    for row in range(10):
        mean = learner.actor.outputs(layers, learner.actor.normalize(rollout.obs[row]))[0]
        assert torch.allclose(rollout.action[row], mean + 0.3 * noise[row], atol=1e-6)


def test_values_bootstrap_at_time_limits_and_not_at_terminations() -> None:
    learner = learner_of(env=PointMasses(3, 2, horizon=3, stop=0.4), gamma=0.5, lam=0.0)
    # V = sum of the observation: tanh(1e-3 x) is 1e-3 x
    learner.critic = SplitMLP(3, (2, 2, 1))
    learner.critic.shared.data = torch.tensor([1e-3, 0.0, 0.0, 1e-3, 0.0, 0.0, 1e3, 1e3, 0.0])
    rollout = learner.collect()
    actual = learner.batch_of(rollout)
    worth = 0.5 * rollout.next_obs.sum(dim=-1) * ~rollout.terminated
    assert torch.allclose(actual.target, by_task(rollout.reward + worth), atol=1e-4)
    cut = by_task(rollout.ended & ~rollout.terminated)
    assert cut.any() and float(by_task(worth)[cut].abs().min()) > 1e-3
    advantage = by_task(rollout.reward + worth - rollout.obs.sum(dim=-1))
    centred = advantage - advantage.mean(dim=1, keepdim=True)
    expected = centred / centred.square().mean(dim=1, keepdim=True).sqrt()
    assert torch.allclose(actual.advantage, expected, atol=1e-3)


def test_advantages_of_every_task_are_normalised_apart() -> None:
    learner = learner_of(env=ScaledRewards(UNEQUAL))
    actual = learner.batch_of(learner.collect()).advantage
    assert torch.allclose(actual.mean(dim=1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(actual.std(dim=1, correction=0), torch.ones(3), atol=1e-4)


def test_pooled_advantages_are_normalised_together() -> None:
    learner = learner_of(env=ScaledRewards(UNEQUAL), pooled_advantages=True)
    actual = learner.batch_of(learner.collect())
    critic = learner.critic.layers(learner.critic.weights())
    advantage = actual.target - learner.critic.run(critic, actual.x)[..., 0]
    expected = (advantage - advantage.mean()) / advantage.std(correction=0)
    assert torch.allclose(actual.advantage, expected, atol=1e-4)
    assert actual.advantage[1].std() > 10 * actual.advantage[0].std()


def test_with_own_values_a_task_learns_nothing_of_the_values_of_others() -> None:
    for own in (False, True):
        learner = learner_of(own_values=own)
        batch = learner.batch_of(learner.collect())
        # only task 0 has errors of its values
        target = batch_values(learner, batch).clone()
        target[0] += 1.0
        gradient = learner.task_gradients(batch._replace(target=target))[1]
        before = batch_values(learner, batch)
        with torch.no_grad():
            trunk = learner.critic.trunk
            assert trunk == (0 if own else sum(learner.critic.sizes))
            sums = gradient[:, :trunk].sum(dim=0, keepdim=True)
            learner.critic.set_gradients(sums, gradient[:, trunk:])
            shared, copies = learner.critic.shared, learner.critic.own
            assert (copies.grad is not None) == own  # nothing else is split
            for parameter in [shared, copies] if own else [shared]:
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
        changed = (batch_values(learner, batch) != before).any(dim=1)
        assert changed.tolist() == [True, not own, not own]


def batch_values(learner: PPO, batch: Batch) -> Tensor:
    """V of the states of a batch, (T, B)."""
    with torch.no_grad():
        return learner.value(learner.critic.layers(learner.critic.weights()), batch.x)


def test_an_iteration_may_be_one_step_of_each_task() -> None:
    learner = learner_of(env=PointMasses(3, 1), batch_steps=3)
    for _ in range(3):
        assert math.isfinite(learner.step()["policy_loss"])
    assert learner.env_steps == 9 and learner.updates == 6


def test_rewards_are_scaled_for_the_value_function_only() -> None:
    plain, scaled = (recorder(reward_scale=scale, lam=1.0) for scale in (1.0, 0.25))
    for learner in (plain, scaled):
        # no value yet, so that targets are discounted sums of rewards
        learner.critic.shared.data.zero_()
    rewards = [learner.step()["reward"] for learner in (plain, scaled)]
    assert rewards[0] == rewards[1] < 0
    assert torch.allclose(scaled.batches[0].target, 0.25 * plain.batches[0].target, atol=1e-6)
    assert torch.allclose(scaled.batches[0].advantage, plain.batches[0].advantage, atol=1e-5)


def test_the_improved_policy_is_the_collecting_policy() -> None:
    learner = recorder(epochs=3)
    for _ in range(3):
        count = len(learner.minibatches)
        net, normalizer = learner.actor.net, learner.actor.normalizer
        theta, mean = net.weights().detach().clone(), normalizer.mean.clone()
        noise_state = learner.generator.get_state()
        learner.step()
        rollout, batch = learner.rollouts[-1], learner.batches[-1]
        # the noise that was drawn is what the actions are off the means
        draw = torch.Generator()
        draw.set_state(noise_state)
        noise = torch.randn(rollout.action.shape, generator=draw)
        log_std = net.layers(theta)[-1][:, None]
        expected = normal_log_prob(by_task(noise), torch.zeros(()), torch.zeros(2))
        expected = expected - log_std.sum(dim=-1)
        assert torch.allclose(batch.log_prob, expected, atol=1e-5)
        # in the first minibatch r(theta) = 1
        first = learner.minibatches[count]
        actual = learner.actor.outputs(net.layers(theta), first.x)
        ratio = (normal_log_prob(first.action, *actual) - first.log_prob).exp()
        assert torch.allclose(ratio, torch.ones(()), rtol=0, atol=1e-6)
        # and later not any more
        last = learner.minibatches[-1]
        actual = learner.actor.outputs(net.layers(net.weights().detach()), last.x)
        ratio = (normal_log_prob(last.action, *actual) - last.log_prob).exp()
        assert float((ratio - 1).abs().max()) > 1e-3
        assert not torch.equal(normalizer.mean, mean)


def test_observations_are_normalised_by_the_rollouts_before() -> None:
    learner = recorder()
    for _ in range(3):
        learner.step()
    seen = torch.cat([by_task(rollout.obs) for rollout in learner.rollouts], dim=1).flatten(0, 1)
    normalizer = learner.actor.normalizer
    assert torch.allclose(normalizer.mean, seen.double().mean(dim=0), atol=1e-7)
    assert torch.allclose(normalizer.var, seen.double().var(dim=0, correction=0), atol=1e-7)
    before = torch.cat([by_task(rollout.obs) for rollout in learner.rollouts[:2]], dim=1)
    rows = before.flatten(0, 1).double()
    expected = (by_task(learner.rollouts[2].obs) - rows.mean(dim=0)) / rows.std(dim=0, correction=0)
    assert torch.allclose(learner.batches[2].x, expected.float(), atol=1e-5)
    following = by_task(learner.rollouts[2].next_obs)
    expected = (following - rows.mean(dim=0)) / rows.std(dim=0, correction=0)
    assert torch.allclose(learner.batches[2].next_x, expected.float(), atol=1e-5)
    # the first time there are none
    assert torch.equal(learner.batches[0].x, by_task(learner.rollouts[0].obs))


def test_an_epoch_takes_every_step_once() -> None:
    learner = recorder(minibatch=6, epochs=3)
    learner.step()
    batch = learner.batches[0]
    # 20 steps of each task: three minibatches of six in an epoch, two steps wait
    assert learner.updates == len(learner.minibatches) == 9
    orders = []
    for epoch in range(3):
        parts = learner.minibatches[3 * epoch : 3 * epoch + 3]
        drawn = Batch(*(torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)))
        assert drawn.log_prob.shape == (3, 18)
        place = (drawn.x[:, :, None] == batch.x[:, None]).all(dim=-1)  # (T, 18, 20)
        assert (place.sum(dim=2) == 1).all() and (place.sum(dim=1) <= 1).all()
        rows = place.float().argmax(dim=2)
        orders.append(rows)
        for column, actual in zip(batch, drawn, strict=True):
            index = rows if column.ndim == 2 else rows[..., None].expand_as(actual)
            assert torch.equal(column.gather(1, index), actual)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(orders[one], orders[other])
    # every task has its own order
    assert not torch.equal(orders[0][0], orders[0][1])


def test_a_batch_smaller_than_a_minibatch_is_one_minibatch() -> None:
    learner = recorder(minibatch=64)
    learner.step()
    assert [part.log_prob.shape for part in learner.minibatches] == [(3, 20)] * 2


def test_metrics_are_means_over_minibatches() -> None:
    learner = recorder()
    actual: list[Tensor] = []
    plain = learner.update_on

    def remembered(batch: Batch) -> Tensor:
        actual.append(plain(batch))
        return actual[-1]

    learner.update_on = remembered  # type: ignore[method-assign]
    metrics = learner.step()
    assert metrics.pop("reward") == float(learner.rollouts[0].reward.mean())
    assert list(metrics) == ["policy_loss", "value_loss", "entropy"]
    expected = torch.stack(actual).mean(dim=0).tolist()
    assert list(metrics.values()) == pytest.approx(expected, rel=1e-6)
    assert len(actual) == 10 and metrics["entropy"] == pytest.approx(2.84, abs=0.1)


def test_the_one_hot_vector_reaches_policy_and_value_function() -> None:
    learner = recorder(one_hot=True)
    learner.step()
    x = learner.batches[0].x
    assert x.shape == (3, 20, 5) and learner.critic.shapes[0] == (5, 8)
    assert torch.equal(x[..., 2:], torch.eye(3)[:, None].expand(3, 20, 3))
    obs = torch.zeros(3, 4, 2)
    action = learner.actor.mean_action(obs)
    assert not torch.equal(action[0], action[1])
    without = recorder()
    without.step()
    action = without.actor.mean_action(obs)
    assert torch.equal(action[0], action[1]) and without.batches[0].x.shape == (3, 20, 2)


def test_the_learning_rate_decreases_linearly() -> None:
    learner = learner_of(lr=0.1, final_lr=0.5)
    for steps, factor in ((0, 1.0), (300, 0.75), (600, 0.5), (700, 0.5)):
        learner.env_steps = steps
        learner.schedule_rates()
        assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * factor)
    assert learner.optimizer.param_groups[0]["eps"] == 1e-5


def test_the_last_iteration_learns_too() -> None:
    learner = learner_of(final_lr=0.0, batch_steps=300)
    rates, before = [], learner.actor.net.shared.detach().clone()
    while learner.env_steps < 600:
        learner.step()
        rates.append(learner.optimizer.param_groups[0]["lr"] / TINY.lr)
    assert rates == pytest.approx([1.0, 0.5])
    assert not torch.equal(learner.actor.net.shared, before)


def test_entropy_is_rewarded() -> None:
    std = []
    for weight in (0.0, 1.0):
        learner = learner_of(entropy_weight=weight)
        for _ in range(3):
            learner.step()
        std.append(float(learner.actor.net.shared.detach()[-2:].exp().mean()))
    assert std[1] > std[0] + 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\), but must be widths of at least 1"),
        ({"hidden": (16, 0)}, r"hidden is \(16, 0\), but must be widths of at least 1"),
        ({"batch_steps": 0}, "batch_steps is 0, but must be at least 1"),
        ({"minibatch": 0}, "minibatch is 0, but must be at least 1"),
        ({"epochs": 0}, "epochs is 0, but must be at least 1"),
        ({"clip": 0.0}, "clip is 0, but must be at least 1e-12"),
        ({"lr": -1.0}, "lr is -1, but must be at least 1e-12"),
        ({"initial_std": 0.0}, "initial_std is 0, but must be at least 1e-12"),
        ({"reward_scale": math.nan}, "reward_scale is nan, but must be at least 1e-12"),
        ({"final_lr": 2.0}, "final_lr is 2, but must be from 0 to 1"),
        ({"gamma": 1.5}, "gamma is 1.5, but must be from 0 to 1"),
        ({"lam": -0.1}, "lam is -0.1, but must be from 0 to 1"),
        ({"value_weight": -1.0}, "value_weight is -1, but must be at least 0"),
        ({"smoothness": -0.1}, "smoothness is -0.1, but must be at least 0"),
        ({"entropy_weight": math.inf}, "entropy_weight is inf, but must be at least 0"),
    ],
)
def test_illegal_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PPOConfig(**changes)


def test_a_batch_that_holds_no_step_is_refused() -> None:
    with pytest.raises(UserError, match="batch_steps is 5, but must hold a step of 6 environments"):
        learner_of(batch_steps=5)
    assert learner_of(batch_steps=6).steps == 1
