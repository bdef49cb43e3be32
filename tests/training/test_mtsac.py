"""Soft actor-critic on several tasks against arithmetic by hand; what MTMHSAC and independent SAC
share.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from task_fakes import SMALL, PointMasses, make, no_policies, random_batch, step_plainly, weights
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from polyreach.errors import UserError
from polyreach.methods.independent_sac import IndependentSAC
from polyreach.methods.mtmhsac import MTMHSAC
from polyreach.methods.mtsac import MTSAC, SACConfig, Temperatures
from polyreach.methods.off_policy import move_target
from polyreach.networks.mlp import TaskCritic, TaskLinear
from polyreach.storage.replay import Batch


class ConstantCritic(nn.Module):
    """Twin Q-values that depend on the task alone."""

    def __init__(self, q: Tensor) -> None:
        super().__init__()
        self.q = nn.Parameter(q)  # (2, T)

    def forward(self, obs: Tensor, action: Tensor, tasks: Tensor | None = None) -> Tensor:
        q = self.q if tasks is None else self.q[:, tasks]
        return q[..., None].expand(*q.shape, obs.shape[1]).clone()


def test_the_critics_descend_to_the_soft_bellman_target() -> None:
    learner = make(MTSAC, SACConfig(), PointMasses(2), gamma=0.5, grad_clip=1e6)
    # Q of the twins in both tasks, 2 transitions each; everything else is given
    critic = ConstantCritic(torch.tensor([[1.0, 0.0], [2.0, 4.0]]))
    learner.loss_critic = critic  # type: ignore[assignment]
    learner.target_critic = lambda *_: torch.tensor(  # type: ignore[assignment]
        [[[3.0, 5.0], [8.0, -2.0]], [[4.0, 1.0], [6.0, 7.0]]]
    )
    learner.actor = lambda *_: (  # type: ignore[assignment]
        torch.zeros(2, 2, 2),
        torch.tensor([[1.0, -2.0], [0.5, 3.0]]),
    )
    learner.alpha.log_alpha.data = torch.tensor([[2.0], [0.1]]).log()
    learner.critic_optimizer = step_plainly(critic.parameters())
    batch = random_batch(2, 2)._replace(
        reward=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        terminated=torch.tensor([[0.0, 0.0], [0.0, 1.0]]),
    )
    found = learner.update_critic(batch, torch.zeros(2, 2, 2))
    # task 0: V = min(3, 4) - 2 * 1 = 1 and min(5, 1) + 2 * 2 = 5, so y = 1.5 and 4.5
    # task 1: V = min(8, 6) - 0.1 * 0.5 = 5.95, so y = 5.975, and 4 where nothing follows
    y = [[1.5, 4.5], [5.975, 4.0]]
    loss, after = 0.0, []
    for twin in ([1.0, 0.0], [2.0, 4.0]):
        row = []
        for q, targets in zip(twin, y, strict=True):
            loss += sum((q - target) ** 2 / 2 for target in targets) / 2
            # d/dq of the mean over 2 tasks of the mean square over 2 transitions
            row.append(q - sum(2 * (q - target) / 2 for target in targets) / 2)
        after.append(row)
    assert float(found["critic_loss"]) == pytest.approx(loss, rel=1e-6)
    assert torch.allclose(critic.q, torch.tensor(after), atol=1e-6)
    assert float(found["q"]) == pytest.approx(7 / 4)


def test_the_actor_descends_the_entropy_regularised_value() -> None:
    learner = make(MTSAC, SACConfig(), hidden=(6,), grad_clip=1e6)
    learner.alpha.log_alpha.data = torch.tensor([[0.5], [1.0], [3.0]]).log()
    learner.actor_optimizer = step_plainly(learner.actor.parameters())
    batch, noise = random_batch(3, 4), torch.randn(3, 4, 2)
    before = weights(learner.actor)
    # from the definition, sample by sample, with the distribution of another library
    loss = torch.zeros(())
    entropy = 0.0
    for task, alpha in enumerate((0.5, 1.0, 3.0)):
        for sample in range(4):
            row = torch.tensor([task])
            obs = batch.obs[task, sample][None, None]
            mean, log_std = (x[0, 0] for x in learner.actor.distribution(obs, row))
            squashed = TransformedDistribution(
                Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)]
            )
            action = torch.tanh(mean + log_std.exp() * noise[task, sample])
            log_prob = squashed.log_prob(action).sum()
            q = learner.critic(obs, action[None, None], row)[:, 0, 0].min()
            loss = loss + (alpha * log_prob - q) / 12
            entropy -= float(log_prob.detach()) / 12
    expected = torch.autograd.grad(loss, list(learner.actor.parameters()))
    found = learner.update_actor(batch, noise)
    assert float(found["entropy"]) == pytest.approx(entropy, rel=1e-4)
    for old, gradient, new in zip(before, expected, learner.actor.parameters(), strict=True):
        assert torch.allclose(old - gradient, new, rtol=1e-4, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2


def test_a_temperature_rises_where_the_entropy_is_too_low() -> None:
    learner = make(MTSAC, SACConfig(initial_alpha=0.2))
    learner.alpha_optimizer = step_plainly(learner.alpha.parameters())
    assert learner.target_entropy == -2.0
    log_prob = torch.tensor([[3.0, 5.0], [1.0, 3.0], [-1.0, 0.0]])
    learner.update_alpha(log_prob, None)
    # d J / d log alpha = -(mean log pi + target entropy): -2, 0, 2.5
    change = learner.alpha.log_alpha.detach().flatten() - math.log(0.2)
    assert change.tolist() == pytest.approx([2.0, 0.0, -2.5], abs=1e-6)
    assert learner.alpha().flatten().tolist() == pytest.approx(
        [0.2 * math.exp(x) for x in (2.0, 0.0, -2.5)], rel=1e-5
    )
    assert learner.alpha(torch.tensor([2])).shape == (1, 1)


def test_targets_follow_by_tau() -> None:
    target, network = Temperatures(2, 1.0), Temperatures(2, math.e)
    move_target(target, network, 0.25)
    assert target.log_alpha.flatten().tolist() == pytest.approx([0.25, 0.25])
    move_target(target, network, 0.25)
    assert target.log_alpha.flatten().tolist() == pytest.approx([0.4375, 0.4375])


def test_an_update_moves_targets_after_the_critics() -> None:
    learner = make(MTSAC, SACConfig(), tau=0.1)
    old = weights(learner.target_critic)
    learner.update_on(random_batch(3), torch.randn(2, 3, 5, 2))
    for before, after, network in zip(
        old, learner.target_critic.parameters(), learner.critic.parameters(), strict=True
    ):
        assert torch.allclose(after, 0.9 * before + 0.1 * network, atol=1e-7)
        assert not torch.equal(after, before)


def test_gradients_are_clipped_by_their_norm() -> None:
    moves = []
    for clip in (1e6, 0.01):
        learner = make(MTSAC, SACConfig(), grad_clip=clip)
        learner.critic_optimizer = step_plainly(learner.critic.parameters())
        before = weights(learner.critic)
        norm = float(learner.update_critic(random_batch(3), torch.zeros(3, 5, 2))["critic_grad"])
        parameters = learner.critic.parameters()
        moves.append([a - b.detach() for a, b in zip(before, parameters, strict=True)])
        length = float(torch.cat([move.flatten() for move in moves[-1]]).norm())
        assert norm > 0.1
        assert length == pytest.approx(min(norm, clip), rel=1e-4)
    for whole, clipped in zip(*moves, strict=True):
        assert torch.allclose(whole * (0.01 / norm), clipped, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("share", ["critic", "actor"])
def test_heads_of_mtmhsac_learn_from_their_own_task_only(share: str) -> None:
    learner = make(MTMHSAC, SACConfig())
    network: Any = getattr(learner, share)
    optimizer = step_plainly(network.parameters())
    x = random_batch(3)
    out = (
        learner.critic(x.obs, x.action)[0]
        if share == "critic"
        else learner.actor.mean_action(x.obs).sum(dim=-1)
    )
    before = weights(network)
    task_loss = out.square().mean(dim=-1) * torch.tensor([0.0, 1.0, 0.0])
    learner.descend(optimizer, network, task_loss)
    moved = [
        (new != old).flatten(2).any(dim=-1).any(dim=0).tolist()
        for new, old in zip(network.parameters(), before, strict=True)
    ]
    *trunk, weight, bias = moved
    assert weight == bias == [False, True, False]
    assert trunk == [[True]] * len(trunk)


def test_mtsac_shares_all_weights_and_independent_sac_none() -> None:
    def owners(kind: type[MTSAC]) -> set[tuple[int, ...]]:
        learner = make(kind, SACConfig())
        return {
            tuple(
                layer.weight.shape[1]
                for layer in network.modules()
                if isinstance(layer, TaskLinear)
            )
            for network in (learner.actor, learner.critic)
        }

    assert owners(MTSAC) == {(1, 1)}
    assert owners(MTMHSAC) == {(1, 3)}
    assert owners(IndependentSAC) == {(3, 3)}


@pytest.mark.parametrize("clip", [1e6, 0.05])
def test_an_independent_agent_is_a_learner_of_one_task(clip: float) -> None:
    together = make(IndependentSAC, SACConfig(), hidden=(16, 16), grad_clip=clip)
    alone = [
        make(IndependentSAC, SACConfig(), PointMasses(1), hidden=(16, 16), grad_clip=clip)
        for _ in range(3)
    ]
    for task, single in enumerate(alone):
        for name in ("actor", "critic", "target_critic"):
            for own, every in zip(
                getattr(single, name).parameters(),
                getattr(together, name).parameters(),
                strict=True,
            ):
                own.data = every.data[:, task : task + 1].clone()
    for update in range(5):
        batch, noise = random_batch(3, 6, seed=update), torch.randn(2, 3, 6, 2)
        together.update_on(batch, noise)
        for task, single in enumerate(alone):
            rows = slice(task, task + 1)
            single.update_on(Batch(*(x[rows] for x in batch)), noise[:, rows])
    for task, single in enumerate(alone):
        for name in ("actor", "critic", "target_critic"):
            for own, every in zip(
                getattr(single, name).parameters(),
                getattr(together, name).parameters(),
                strict=True,
            ):
                assert torch.allclose(own[:, 0], every[:, task], rtol=0, atol=1e-6)
        assert torch.allclose(single.alpha()[0], together.alpha()[task], rtol=1e-6)


def test_an_independent_agent_is_unaffected_by_the_others() -> None:
    runs = [make(IndependentSAC, SACConfig()) for _ in range(2)]
    for update in range(4):
        batch, noise = random_batch(3, 6, seed=update), torch.randn(2, 3, 6, 2)
        runs[0].update_on(batch, noise)
        reward = batch.reward.clone()
        reward[0] *= 100
        runs[1].update_on(batch._replace(reward=reward), noise)
    for left, right in zip(
        [*runs[0].actor.parameters(), *runs[0].critic.parameters()],
        [*runs[1].actor.parameters(), *runs[1].critic.parameters()],
        strict=True,
    ):
        assert torch.equal(left[:, 1:], right[:, 1:])
    one, other = (run.critic.state_dict()["body.head.bias"][:, 0] for run in runs)
    assert not torch.equal(one, other)


def test_temperatures_of_tasks_are_separate() -> None:
    learner = make(MTSAC, SACConfig(alpha_lr=0.1))
    for _ in range(5):
        learner.update_alpha(torch.tensor([[9.0], [2.0], [-9.0]]), None)
    high, same, low = learner.alpha().flatten().tolist()
    assert high > 1.3 and same == pytest.approx(1.0, abs=1e-6) and low < 0.7


def test_collecting_is_uniform_until_the_first_update() -> None:
    learner = make(MTSAC, SACConfig(), PointMasses(3, 2, horizon=4), learning_starts=5)
    metrics = [learner.step() for _ in range(4)]
    # 2 transitions of each task a step: 6 after the third, when updates begin
    assert [set(found) for found in metrics[:2]] == [{"reward"}, {"reward"}]
    assert "critic_loss" in metrics[2] and learner.updates == 2
    assert learner.env_steps == 4 * 6 and learner.replay.size == [8, 8, 8]
    twin = make(MTSAC, SACConfig(), PointMasses(3, 2, horizon=4))
    for row in range(3):
        uniform = 2 * torch.rand(3, 2, 2, generator=twin.generator) - 1
        assert torch.equal(learner.replay.store[:, 2 * row : 2 * row + 2, 2:4], uniform)


def test_transitions_keep_the_state_before_a_restart_and_the_truncation() -> None:
    env = PointMasses(3, 2, horizon=2, stop=0.4)
    learner = make(MTSAC, SACConfig(), env, learning_starts=30)
    for _ in range(12):
        learner.step()
    obs, action, _, terminated, next_obs = learner.replay.store[:, :24].split([2, 2, 1, 1, 2], -1)
    moved = (obs + 0.25 * action).clamp(-1, 1)
    assert torch.allclose(next_obs, moved, atol=1e-6)
    distance = (next_obs - env.target).norm(dim=-1)
    assert torch.equal(terminated[..., 0].bool(), distance < 0.4)
    # time limits are no ends: most episodes of 2 steps were cut off
    assert 0 < float(terminated.mean()) < 0.4


def test_rewards_are_scaled_for_the_critics_only() -> None:
    learners = [make(MTSAC, SACConfig(), reward_scale=scale) for scale in (1.0, 0.25)]
    for learner in learners:
        learner.collect(None)
    plain, scaled = (learner.sample() for learner in learners)
    assert torch.equal(plain.reward * 0.25, scaled.reward)
    assert torch.equal(plain.obs, scaled.obs) and float(plain.reward.abs().min()) > 0


def test_learning_rates_decrease_linearly() -> None:
    learner = make(
        MTSAC, SACConfig(alpha_lr=0.4), total_steps=100, actor_lr=0.1, critic_lr=0.2, final_lr=0.5
    )
    for steps, factor in ((0, 1.0), (50, 0.75), (100, 0.5), (120, 0.5)):
        learner.env_steps = steps
        learner.schedule_rates()
        rates = [
            optimizer.param_groups[0]["lr"]
            for optimizer in (
                learner.actor_optimizer,
                learner.critic_optimizer,
                learner.alpha_optimizer,
            )
        ]
        assert rates == pytest.approx([0.1 * factor, 0.2 * factor, 0.4 * factor])


def test_updates_per_step() -> None:
    learner = make(MTSAC, SACConfig(), updates_per_step=3, learning_starts=2)
    for _ in range(4):
        learner.step()
    assert learner.updates == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\), but must be widths of at least 1"),
        ({"hidden": (16, 0)}, r"hidden is \(16, 0\), but must be widths of at least 1"),
        ({"gamma": 1.5}, "gamma is 1.5, but must be from 0 to 1"),
        ({"tau": -0.1}, "tau is -0.1, but must be from 0 to 1"),
        ({"final_lr": 2.0}, "final_lr is 2, but must be from 0 to 1"),
        ({"actor_lr": 0.0}, "actor_lr is 0, but must be at least 1e-12"),
        ({"critic_lr": math.nan}, "critic_lr is nan, but must be at least"),
        ({"grad_clip": math.inf}, "grad_clip is inf, but must be at least"),
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"replay_size": 0}, "replay_size is 0, but must be at least 1"),
        ({"learning_starts": 0}, "learning_starts is 0, but must be at least 1"),
        ({"updates_per_step": 0}, "updates_per_step is 0, but must be at least 1"),
        ({"alpha_lr": 0.0}, "alpha_lr is 0, but must be at least"),
        ({"initial_alpha": -1.0}, "initial_alpha is -1, but must be at least"),
    ],
)
def test_illegal_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(SACConfig(), **changes)


def test_a_run_that_ends_before_its_first_update_is_refused() -> None:
    # 5 transitions of each task are there after 3 steps of 2 environments each
    make(MTSAC, SACConfig(), PointMasses(3, 2), learning_starts=5, total_steps=18).prepare(
        no_policies
    )
    late = make(MTSAC, SACConfig(), PointMasses(3, 2), learning_starts=5, total_steps=17)
    with pytest.raises(UserError, match="steps is 17, but the first update comes after 18"):
        late.prepare(no_policies)
    for _ in range(3):
        late.step()
    assert late.updates == 1 and late.env_steps == 18


def test_a_replay_must_hold_a_step() -> None:
    with pytest.raises(UserError, match="replay_size is 3, but must hold a step of 4 environments"):
        MTSAC(SACConfig(**SMALL | {"replay_size": 3}), PointMasses(2, 4), 100, 0)


def test_a_learner_starts_learning_with_a_replay_smaller_than_its_start() -> None:
    learner = make(MTSAC, SACConfig(), PointMasses(2, 2), replay_size=6, learning_starts=1000)
    for _ in range(3):
        learner.step()
    assert learner.updates == 1 and learner.replay.size == [6, 6]


def test_twin_critics_start_different_and_targets_equal_to_their_critics() -> None:
    learner = make(MTSAC, SACConfig())
    critic, target = learner.critic, learner.target_critic
    assert isinstance(critic, TaskCritic) and not any(p.requires_grad for p in target.parameters())
    for own, copied in zip(critic.parameters(), target.parameters(), strict=True):
        assert torch.equal(own, copied) and own.data_ptr() != copied.data_ptr()
        assert not torch.equal(own[0], own[1])
