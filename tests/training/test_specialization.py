"""Gradient-guided specialisation: the disagreement by hand, what is split and what follows from it,
and the two methods that it becomes at its ends.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, assert_same
from torch import Tensor

from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.errors import UserError
from polyreach.methods.ppo import PPO, Batch, PPOConfig
from polyreach.methods.specialization import Specialization, SpecializationConfig, largest
from polyreach.networks.gaussian import normal_log_prob
from polyreach.networks.per_task_weights import SplitMLP

# 60 steps are one iteration; the policy has 94 weights, the value function 85
TINY = SpecializationConfig(
    hidden=(8, 6),
    batch_steps=60,
    minibatch=4,
    epochs=2,
    lr=1e-2,
    joint_steps=180,
    average_iterations=2,
)


def learner_of(env: TaskEnv | None = None, seed: int = 0, **changes: Any) -> Specialization:
    """On three point masses by default; a run of 600 steps."""
    return Specialization(replace(TINY, **changes), env or PointMasses(), 600, seed)


def made_up_batch(learner: PPO, count: int = 8, seed: int = 0) -> Batch:
    """`count` made-up steps of each task, likely enough under the learner's policy."""
    draw = torch.Generator().manual_seed(seed)
    tasks = learner.env.tasks
    x, next_x, action = torch.randn(3, tasks, count, 2, generator=draw)
    layers = learner.actor.net.layers(learner.actor.net.weights().detach())
    log_prob = normal_log_prob(action, *learner.actor.outputs(layers, x))
    advantage, target, noise = torch.randn(3, tasks, count, generator=draw)
    return Batch(x, next_x, action, log_prob + 0.1 * noise, advantage, target)


def linear_learner(**changes: Any) -> Specialization:
    """Of two tasks, with the policy a = w x + b and standard deviation exp(s); theta = (w, b, s) is
    zero. The value function is v x.
    """
    learner = learner_of(PointMasses(2), **changes)
    learner.actor.net = SplitMLP(2, (1, 1), extra=(0.0,))
    learner.critic = SplitMLP(2, (1, 1))
    learner.nets = (learner.actor.net, learner.critic)
    for net in learner.nets:
        net.shared.data.zero_()
        net.own.data.zero_()
    learner.candidates = learner.nets if learner.config.value_gradients else learner.nets[:1]
    learner.measured = [torch.zeros(len(net.shared)) for net in learner.candidates]
    if learner.averages_gradients:
        learner.measured = [torch.zeros(net.own.shape) for net in learner.candidates]
    learner.optimizer = torch.optim.Adam([p for net in learner.nets for p in net.parameters()])
    return learner


def linear_batch() -> Batch:
    """Two steps of two tasks, of the policy a = 0 x + 0 with standard deviation 1.

    There r = 1, so that g = -mean A (a x, a, a^2 - 1):
    task 0 has x = 1, 2; a = 2, 0; A = 1, -1: g = -(2, 2, 3 + 1) / 2 = (-1, -1, -2);
    task 1 has x = -1, 1; a = 2, 1; A = 3, -1: g = -(-6 - 1, 6 - 1, 9) / 2 = (3.5, -2.5, -4.5).
    The value is 0, so that the gradient of half its squared error is -mean target (x, 1):
    task 0 has targets 1, 1: (-1.5, -1); task 1 has 2, 0: (1, -1).
    """
    action = torch.tensor([[[2.0], [0.0]], [[2.0], [1.0]]])
    x = torch.tensor([[[1.0], [2.0]], [[-1.0], [1.0]]])
    return Batch(
        x,
        x,
        action,
        -0.5 * action[..., 0].square() - 0.5 * math.log(2 * math.pi),
        torch.tensor([[1.0, -1.0], [3.0, -1.0]]),
        torch.tensor([[1.0, 1.0], [2.0, 0.0]]),
    )


HALF_DIFFERENCES = torch.tensor([2.25, 0.75, 1.25])  # of g, the standard deviation of two


def test_gradients_of_a_linear_policy_by_hand() -> None:
    learner = linear_learner()
    policy, value = learner.task_gradients(linear_batch())
    assert torch.allclose(policy, torch.tensor([[-1.0, -1.0, -2.0], [3.5, -2.5, -4.5]]), atol=1e-5)
    assert torch.allclose(value, torch.tensor([[-1.5, -1.0], [1.0, -1.0]]), atol=1e-5)
    losses = learner.losses(linear_batch(), *(net.weights() for net in learner.nets)).detach()
    # -mean A, and mean squares of the targets
    assert losses[:2].flatten().tolist() == pytest.approx([0.0, -1.0, 1.0, 2.0], abs=1e-6)


@pytest.mark.parametrize(
    ("disagreement", "expected"),
    [("variance", HALF_DIFFERENCES.square()), ("std", HALF_DIFFERENCES)],
)
def test_the_disagreement_of_a_linear_policy_by_hand(disagreement: str, expected: Tensor) -> None:
    learner = linear_learner(disagreement=disagreement)
    for count in (1, 2):
        learner.measure(linear_batch())
        assert len(learner.measured) == 1
        assert torch.allclose(learner.measured[0], count * expected, atol=1e-4)


@pytest.mark.parametrize(
    ("specialized", "chosen"),
    [
        (0.0, [False, False, False]),
        (1 / 3, [True, False, False]),
        (2 / 3, [True, False, True]),
        (1.0, [True, True, True]),
    ],
)
def test_the_weights_with_the_largest_disagreement_are_split(
    specialized: float, chosen: list[bool]
) -> None:
    learner = linear_learner(specialized=specialized)
    learner.measure(linear_batch())
    learner.env_steps = 179
    learner.split_if_due()
    assert learner.joint and not learner.actor.net.split.any()
    learner.env_steps = 180
    learner.split_if_due()
    assert not learner.joint and learner.actor.net.split.tolist() == chosen


def test_the_average_over_iterations_selects_the_weights() -> None:
    """Weight 0 disagrees much once, weight 1 a little twice: variances 9 + 0 and 4 + 4, standard
    deviations 3 + 0 and 2 + 2.
    """
    actual = {}
    for disagreement in ("variance", "std"):
        learner = linear_learner(disagreement=disagreement, specialized=1 / 3)
        for first in (3.0, 0.0):
            g = torch.tensor([[first, 2.0, 0.0], [-first, -2.0, 0.0]])
            learner.task_gradients = lambda batch, g=g: [g, g]  # type: ignore
            learner.measure(linear_batch())
        learner.env_steps = 180
        learner.split_if_due()
        actual[disagreement] = learner.actor.net.split.tolist()
    assert actual == {"variance": [True, False, False], "std": [False, True, False]}


def test_averaged_gradients_leave_out_what_changes_sign() -> None:
    """Weight 0 disagrees much, but now one way and now the other; weight 1 a little both times."""
    learner = linear_learner(average="gradients", specialized=1 / 3)
    for first in (3.0, -3.0):
        g = torch.tensor([[first, 1.0, 0.0], [-first, -1.0, 0.0]])
        learner.task_gradients = lambda batch, g=g: [g, g]  # type: ignore
        learner.measure(linear_batch())
    state = learner.state_dict()["disagreement"][0]
    assert state.tolist() == [[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]]
    learner.env_steps = 180
    learner.split_if_due()
    assert learner.actor.net.split.tolist() == [False, True, False]


def test_the_value_function_is_split_by_its_own_gradients() -> None:
    learner = linear_learner(value_gradients=True, specialized=0.5)
    learner.measure(linear_batch())
    # (-1.5 - 1) / 2 and (-1 + 1) / 2
    expected = torch.tensor([1.25**2, 0.0])
    assert torch.allclose(learner.measured[0], HALF_DIFFERENCES.square(), atol=1e-4)
    assert torch.allclose(learner.measured[1], expected, atol=1e-5)
    learner.env_steps = 180
    learner.split_if_due()
    # half of three weights, rounded to even
    assert learner.actor.net.split.tolist() == [True, False, True]
    assert learner.critic.split.tolist() == [True, False]
    without = linear_learner(specialized=1.0)
    without.measure(linear_batch())
    without.env_steps = 180
    without.split_if_due()
    assert without.actor.net.split.all() and not without.critic.split.any()


def test_the_weights_with_the_largest_scores_are_split() -> None:
    score = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    for share, count in ((0.0, 0), (0.125, 1), (0.25, 2), (0.5, 4), (1.0, 8)):
        actual = largest(score, share)
        assert int(actual.sum()) == count
        assert sorted(score[actual].tolist()) == sorted(score.tolist())[8 - count :]
    # of equal ones those that come first stay
    assert largest(torch.zeros(4), 0.5).tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("joint_steps", "average_iterations", "iterations"),
    [
        (180, 2, [1, 2]),
        (180, 1, [2]),
        (240, 10, [0, 1, 2, 3]),
        # the split is after the fourth iteration, the first to reach jt
        (181, 2, [2, 3]),
        (200, 2, [2, 3]),
        (239, 1, [3]),
        (60, 1, [0]),
        (1, 3, [0]),
    ],
)
def test_the_disagreement_is_that_of_the_last_iterations(
    joint_steps: int, average_iterations: int, iterations: list[int]
) -> None:
    learner = learner_of(joint_steps=joint_steps, average_iterations=average_iterations)
    measured = []
    plain = learner.measure

    def remembered(batch: Batch) -> None:
        assert batch.log_prob.shape == (3, 20)
        measured.append(learner.updates)
        plain(batch)

    learner.measure = remembered  # type: ignore[method-assign]
    for iteration in range(6):
        assert learner.joint == (iteration * 60 < joint_steps)
        assert bool(learner.actor.net.split.any()) != learner.joint
        learner.step()
    # before the ten updates of an iteration
    assert measured == [10 * iteration for iteration in iterations]


def test_the_disagreement_is_that_of_the_whole_rollout_before_its_epochs() -> None:
    learner = learner_of(joint_steps=60, average_iterations=1)
    batch = learner.batch_of(learner.collect())
    thetas = [net.weights().detach().clone() for net in learner.nets]
    rows = []
    for task in range(3):
        theta = thetas[0].clone().requires_grad_()
        policy_loss = learner.losses(batch, theta, thetas[1])[0]
        rows.append(torch.autograd.grad(policy_loss[task], theta)[0][task])
    learner.improve(batch)
    expected = torch.stack(rows).var(dim=0, correction=0)
    assert torch.allclose(learner.measured[0], expected, rtol=1e-4, atol=1e-7)
    chosen = learner.actor.net.split
    assert int(chosen.sum()) == round(0.25 * 94)
    assert float(expected[chosen].min()) >= float(expected[~chosen].max())


def test_metrics_report_the_share_of_split_weights() -> None:
    learner = learner_of(specialized=0.5)
    actual = [learner.step()["split"] for _ in range(4)]
    assert actual == pytest.approx([0.0, 0.0, 0.5, 0.5])


def test_the_split_does_not_change_the_policy() -> None:
    learner = learner_of(value_gradients=True)
    for _ in range(2):
        learner.step()
    batch = learner.batch_of(learner.collect())
    learner.measure(batch)
    PPO.improve(learner, batch)
    assert learner.env_steps == 180 and learner.joint
    obs = torch.randn(3, 50, 2)
    action = learner.actor.mean_action(obs)
    thetas = [net.weights().detach().clone() for net in learner.nets]
    learner.split_if_due()
    assert [int(net.split.sum()) for net in learner.nets] == [24, 21]
    assert torch.equal(learner.actor.mean_action(obs), action)
    for net, theta in zip(learner.nets, thetas, strict=True):
        assert torch.equal(net.weights(), theta)
        state = learner.optimizer.state
        for name in ("exp_avg", "exp_avg_sq"):
            copied = state[net.own][name][:, net.split]
            assert torch.equal(copied, state[net.shared][name][net.split].expand(3, -1))
            assert copied.any()
        assert state[net.own]["step"] == state[net.shared]["step"]


def test_shared_weights_stay_equal_and_split_weights_diverge() -> None:
    learner = learner_of(specialized=0.3)
    for _ in range(3):
        learner.step()
        theta = learner.actor.net.weights()
        assert torch.equal(theta, theta[:1].expand(3, -1))
    split = learner.actor.net.split.clone()
    assert int(split.sum()) == 28
    before = theta.detach().clone()
    for _ in range(4):
        learner.step()
        theta, value = (net.weights().detach() for net in learner.nets)
        assert torch.equal(learner.actor.net.split, split)
        assert torch.equal(theta[:, ~split], theta[:1, ~split].expand(3, -1))
        assert torch.equal(value, value[:1].expand(3, -1))
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert (theta[one] != theta[other])[split].all()
    # all of them learn on
    assert (theta != before).all()


def without_method(state: dict[str, Any]) -> dict[str, Any]:
    """What PPO has too."""
    return {key: part for key, part in state.items() if key not in ("joint", "disagreement")}


def test_with_nothing_split_it_is_ppo() -> None:
    known = asdict(PPOConfig())
    config = PPOConfig(**{key: x for key, x in asdict(TINY).items() if key in known})
    plain = PPO(config, PointMasses(), 600, 0)
    ours = learner_of(specialized=0.0)
    for _ in range(6):
        expected = plain.step()
        assert ours.step() == {**expected, "split": 0.0}
    assert not ours.joint
    assert_same(without_method(ours.state_dict()), plain.state_dict())


def alone(together: Specialization, task: int) -> PPO:
    """PPO on one task, with the weights of `together` for `task`."""
    single = PPO(together.config, PointMasses(1), 600, 0)
    for one, every in zip(single.nets, together.nets, strict=True):
        one.shared.data = every.weights()[task].detach().clone()
    return single


def test_with_everything_split_tasks_are_trained_separately() -> None:
    together = learner_of(joint_steps=0, specialized=1.0, value_gradients=True)
    assert not together.joint and all(net.split.all() for net in together.nets)
    singles = [alone(together, task) for task in range(3)]
    start = [net.weights().detach().clone() for net in together.nets]
    for update in range(8):
        batch = made_up_batch(together, seed=update)
        together.update_on(batch)
        for task, single in enumerate(singles):
            single.update_on(Batch(*(x[task : task + 1] for x in batch)))
    for task, single in enumerate(singles):
        for one, every, old in zip(single.nets, together.nets, start, strict=True):
            assert torch.allclose(one.weights()[0], every.weights()[task], rtol=0, atol=1e-6)
            assert float((one.weights()[0] - old[task]).detach().abs().mean()) > 1e-2
    # what differs between tasks is far more
    for net in together.nets:
        assert float((net.weights()[0] - net.weights()[1]).detach().abs().mean()) > 1e-2


def test_with_everything_split_tasks_are_independent() -> None:
    runs = [learner_of(joint_steps=0, specialized=1.0) for _ in range(2)]
    for update in range(5):
        batch = made_up_batch(runs[0], seed=update)
        runs[0].update_on(batch)
        advantage = batch.advantage.clone()
        advantage[0] *= -3.0
        runs[1].update_on(batch._replace(advantage=advantage))
    one, other = (run.actor.net.weights() for run in runs)
    assert torch.equal(one[1:], other[1:])
    assert float((one[0] - other[0]).detach().abs().mean()) > 1e-2


class OneTaskPaysMore(PointMasses):
    """The rewards of the first task are larger, and it ends elsewhere."""

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        step = super().step(action, tasks)
        step.reward[0] *= 20.0
        step.obs[0] += 0.5
        step.final_obs[0] += 0.5
        return step


def test_separate_training_shares_nothing() -> None:
    settings = {"value_gradients": True, "own_statistics": True}
    separate, other = (
        learner_of(env, joint_steps=0, specialized=1.0, **settings)
        for env in (PointMasses(), OneTaskPaysMore())
    )
    pooled = learner_of(OneTaskPaysMore(), joint_steps=0, specialized=1.0)
    for _ in range(4):
        for learner in (separate, other, pooled):
            learner.step()
    for one, same in zip(separate.nets, other.nets, strict=True):
        assert torch.equal(one.weights()[1:], same.weights()[1:])
        assert float((one.weights()[0] - same.weights()[0]).detach().abs().mean()) > 1e-3
    # one value function and one statistic are felt by all
    changes = (separate.actor.net.weights() - pooled.actor.net.weights()).detach().abs()
    assert (changes.mean(dim=1) > 1e-3).all()


@pytest.mark.parametrize(("specialized", "count"), [(0.05, 5), (0.25, 24), (0.5, 47)])
def test_a_random_selection_has_the_same_size(specialized: float, count: int) -> None:
    chosen = []
    for seed in (0, 0, 1):
        learner = learner_of(seed=seed, selection="random", specialized=specialized)
        # not the gradients', which would choose the first ones
        learner.measured[0].copy_(-torch.arange(94.0))
        learner.env_steps = 180
        learner.split_if_due()
        chosen.append(learner.actor.net.split)
        assert int(chosen[-1].sum()) == count
        assert not torch.equal(chosen[-1], largest(learner.measured[0], specialized))
    assert torch.equal(chosen[0], chosen[1]) and not torch.equal(chosen[0], chosen[2])


def test_every_weight_is_equally_likely_in_a_random_selection() -> None:
    learner = linear_learner(selection="random", specialized=1 / 3)
    counts = torch.zeros(3)
    for _ in range(900):
        learner.joint, learner.actor.net.split = True, torch.zeros(3, dtype=torch.bool)
        learner.env_steps = 180
        learner.split_if_due()
        counts += learner.actor.net.split
    # five standard deviations
    assert counts.sum() == 900 and float((counts - 300).abs().max()) < 5 * math.sqrt(200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_steps": -1}, "joint_steps is -1, but must be at least 0"),
        ({"specialized": 1.5}, "specialized is 1.5, but must be from 0 to 1"),
        ({"specialized": math.nan}, "specialized is nan, but must be from 0 to 1"),
        ({"average_iterations": 0}, "average_iterations is 0, but must be at least 1"),
        ({"selection": "any"}, "selection is 'any', but must be one of gradient, random"),
        ({"disagreement": "sum"}, "disagreement is 'sum', but must be one of variance, std"),
        ({"average": "sum"}, "average is 'sum', but must be one of disagreement, gradients"),
        ({"gamma": 1.5}, "gamma is 1.5, but must be from 0 to 1"),
        (
            {"joint_steps": 0, "specialized": 0.25},
            "joint_steps is 0, .* specialized is 0.25, but must be 0 or 1 then, or selection",
        ),
    ],
)
def test_illegal_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpecializationConfig(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"specialized": 0.0}, {"specialized": 1.0}, {"specialized": 0.25, "selection": "random"}],
)
def test_without_joint_training_nothing_is_measured(changes: dict[str, Any]) -> None:
    learner = learner_of(joint_steps=0, **changes)
    assert not learner.joint
    assert int(learner.actor.net.split.sum()) == round(94 * changes["specialized"])
    learner.step()
    assert not learner.measured[0].any()
