"""A2C: returns and losses by hand, what a task's update touches, and runs that learn and go on
where they stopped.
"""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, assert_goes_on, assert_same
from torch import Tensor
from torch.distributions import Normal

from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.methods.a2c import A2C, A2CConfig
from polyreach.methods.multi_head import norm_apart, norm_together
from polyreach.networks.per_task_weights import Normalizer, SplitMLP
from polyreach.storage.rollout import Rollout, advantages

SHARED_ALONE: dict[str, Any] = {"sharing": "none"}


def learner_of(env: PointMasses | None = None, seed: int = 0, **changes: Any) -> A2C:
    """Two hidden layers of 8, on three point masses, away from the start of the heads."""
    settings = replace(A2CConfig(hidden=(8, 8), critic_hidden=(8, 8)), **changes)
    learner = A2C(settings, env or PointMasses(), 1000, seed)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(seed)
        own = learner.actor.net.own
        own.add_(0.1 * torch.randn(own.shape, generator=draw))
    return learner


def made_up_rollout(
    tasks: int, steps: int = 5, count: int = 4, seed: int = 0, limits: bool = True
) -> Rollout:
    """Some steps terminate, some are cut off by the time limit; else the next one follows."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(steps, tasks, count, *shape, generator=draw)

    terminated = torch.rand(steps, tasks, count, generator=draw) < 0.2
    truncated = torch.rand(steps, tasks, count, generator=draw) < 0.2 * limits
    obs, following, ended = normal(2), normal(2), terminated | truncated
    following[:-1] = torch.where(ended[:-1, ..., None], following[:-1], obs[1:])
    return Rollout(obs, normal(2), normal(), terminated, ended, following)


def copies(*nets: SplitMLP) -> list[Tensor]:
    return [part.detach().clone() for net in nets for part in (net.shared, net.own)]


def test_returns_of_n_steps_by_hand() -> None:
    """Four environments over three steps: none ends; the first step terminates; it is cut off by
    the time limit; the last terminates.
    """
    reward = torch.tensor([1.0, 2.0, 4.0])[:, None, None].expand(3, 1, 4)
    terminated = torch.zeros(3, 1, 4, dtype=torch.bool)
    terminated[0, 0, 1] = terminated[2, 0, 3] = True
    ended = terminated.clone()
    ended[0, 0, 2] = True
    value = torch.tensor([10.0, 20.0, 30.0])[:, None, None].expand(3, 1, 4)
    next_value = torch.tensor([20.0, 30.0, 40.0])[:, None, None].expand(3, 1, 4).clone()
    next_value[0, 0, 2] = 50.0  # of the state that was reached, not of the one that started there
    unused = torch.zeros(3, 1, 4, 1)
    rollout = Rollout(unused, unused, reward, terminated, ended, unused)
    found = advantages(rollout, value, next_value, gamma=0.5, lam=1.0) + value
    # R_3 = 4 + 40 / 2 = 24, R_2 = 2 + 24 / 2 = 14, R_1 = 1 + 14 / 2 = 8
    assert found[:, 0, 0].tolist() == [8.0, 14.0, 24.0]
    assert found[:, 0, 1].tolist() == [1.0, 14.0, 24.0]
    assert found[:, 0, 2].tolist() == [1.0 + 0.5 * 50.0, 14.0, 24.0]
    assert found[:, 0, 3].tolist() == [1.0 + 0.5 * (2.0 + 0.5 * 4.0), 4.0, 4.0]


def test_losses_are_those_of_their_definitions() -> None:
    """Against torch.distributions and sums written out, for each task with its own heads."""
    learner = learner_of(gamma=0.9)
    rollout = made_up_rollout(3)
    losses = learner.losses(rollout, None, *(net.weights() for net in learner.nets))
    layers = learner.critic.layers(learner.critic.weights())
    for task in range(3):
        with torch.no_grad():
            seen = rollout.obs.transpose(0, 1).flatten(1, 2)
            mean, log_std = learner.actor.distribution(seen)
        normal = Normal(mean[task], log_std[task].exp())
        assert float(log_std[task].detach().std(dim=0).min()) > 1e-3  # it depends on the state
        value, after = (
            learner.critic.run(layers, seen.transpose(0, 1).flatten(1, 2))[task, :, 0]
            .unflatten(0, (5, 4))
            .tolist()
            for seen in (rollout.obs, rollout.next_obs)
        )
        returns = torch.zeros(5, 4)
        for start in range(5):
            for one in range(4):
                for step in range(start, 5):
                    returns[start, one] += 0.9 ** (step - start) * rollout.reward[step, task, one]
                    if rollout.ended[step, task, one] or step == 4:
                        if not rollout.terminated[step, task, one]:
                            returns[start, one] += 0.9 ** (step - start + 1) * after[step][one]
                        break
        error = returns - torch.tensor(value)
        log_prob = normal.log_prob(rollout.action[:, task].flatten(0, 1)).sum(dim=1)
        expected = [
            -(log_prob * error.flatten()).mean(),
            error.square().mean(),
            normal.entropy().sum(dim=1).mean(),
        ]
        assert losses[:, task].tolist() == pytest.approx([float(one) for one in expected], abs=1e-5)


def test_heads_start_different_and_trunks_equal() -> None:
    learner = learner_of()
    for net, outputs in ((learner.actor.net, 4), (learner.critic, 1)):
        head = (8 + 1) * outputs
        assert net.split.tolist() == [False] * (len(net.split) - head) + [True] * head
        theta = net.weights()
        assert torch.equal(theta[0, :-head], theta[1, :-head])
        assert not torch.equal(theta[0, -head:], theta[1, -head:])
    alone = learner_of(**SHARED_ALONE)
    for net in alone.nets:
        assert bool(net.split.all())
        weight = net.layers(net.weights())[0]
        assert not torch.equal(weight[0], weight[1])
        assert torch.allclose(weight.norm(dim=1), torch.ones(3, 8), atol=0.5)


@pytest.mark.parametrize(
    ("optimizer", "moment"), [("rmsprop", "square_avg"), ("adam", "exp_avg_sq")]
)
def test_an_update_touches_the_trunk_and_the_tasks_own_head_only(
    optimizer: str, moment: str
) -> None:
    learner = learner_of(entropy_weight=0.1, optimizer=optimizer)
    learner.step()
    state = learner.optimizer.state_dict()["state"]
    moments = {key: one[moment].clone() for key, one in state.items()}
    before = copies(*learner.nets)
    learner.update_on(made_up_rollout(1), [1])
    for index, net in enumerate(learner.nets):
        shared, own = before[2 * index : 2 * index + 2]
        assert torch.equal(net.own[[0, 2]], own[[0, 2]])
        assert bool((net.own[1] != own[1])[net.split].all())
        assert torch.equal(net.own[1][~net.split], own[1][~net.split])
        moved = net.shared != shared
        assert torch.equal(net.shared[net.split], shared[net.split])
        assert float(moved[~net.split].float().mean()) > 0.9
    # nor do the moments of other heads decay: first the rows of the actor, then the critic's
    after = {key: one[moment] for key, one in learner.optimizer.state_dict()["state"].items()}
    assert [torch.equal(after[row], moments[row]) for row in range(8)] == [
        *(True, False, True),
        *(True, False, True),
        *(False, False),
    ]


def test_moments_of_the_trunk_for_every_task_are_left_out() -> None:
    """As in checkpoints of earlier versions."""
    learner, resumed = learner_of(order="together"), learner_of(order="together")
    learner.step()
    state = deepcopy(learner.state_dict())
    for index, row in enumerate(row for rows in learner.per_task for row in rows):
        trunk = learner.nets[index // 3].trunk
        moments = state["optimizer"]["state"][index]
        assert trunk and len(moments["square_avg"]) == len(row)
        moments["square_avg"] = torch.cat([torch.zeros(trunk), moments["square_avg"]])
    resumed.load_state_dict(state)
    learner.step(), resumed.step()
    assert_same(resumed.state_dict(), learner.state_dict())


def test_all_tasks_together_descend_the_mean_loss() -> None:
    """Of the shared weights the mean of the tasks' gradients, of a head its task's share."""
    learner = learner_of(order="together", grad_clip=1e9)
    rollout = made_up_rollout(3)
    singly = []
    for task in range(3):
        rows = Rollout(*(part[:, [task]] for part in rollout))
        index = torch.tensor([task])
        thetas = [net.weights(index).detach().requires_grad_() for net in learner.nets]
        policy, value, entropy = learner.losses(rows, index, *thetas)
        total = policy + 0.5 * value - 0.01 * entropy
        singly.append(torch.autograd.grad(total.sum(), thetas))
    learner.update_on(rollout, [0, 1, 2])
    for part, net in enumerate(learner.nets):
        g = torch.cat([found[part] for found in singly]) / 3
        shared = learner.shared[part].grad
        assert shared is not None
        assert torch.allclose(shared, g.sum(dim=0) * ~net.split, atol=1e-6)
        for task, row in enumerate(learner.per_task[part]):
            assert row.grad is not None
            assert torch.allclose(row.grad, (g[task] * net.split)[net.trunk :], atol=1e-6)


def test_without_shared_weights_tasks_are_independent() -> None:
    """Twenty times the reward of one task, whose gradient is clipped: nothing of the others
    changes, to the last bit.
    """
    runs = []
    for factor in (1.0, 20.0):
        learner = learner_of(**SHARED_ALONE)
        rollout = made_up_rollout(3)
        rollout.reward[:, 2] *= factor
        learner.update_on(rollout, learner.all_tasks)
        learner.update_normalizer(rollout)
        runs.append(learner)
    for one, other in zip(runs[0].nets, runs[1].nets, strict=True):
        assert torch.equal(one.own[:2], other.own[:2])
        assert not torch.equal(one.own[2], other.own[2])


def test_gradients_are_clipped_of_all_networks_together() -> None:
    parts = [
        (torch.tensor([3.0, 0.0]), torch.tensor([[0.0, 4.0], [0.0, 12.0]])),
        (torch.tensor([0.0]), torch.tensor([[84.0], [0.0]])),
    ]
    assert float(norm_together(parts)) == 85.0
    assert norm_apart(parts).tolist() == [[pytest.approx(7072**0.5)], [12.0]]
    for changes, tasks in (({}, [1]), (SHARED_ALONE, [0, 1, 2])):
        free, clipped = (learner_of(grad_clip=clip, **changes) for clip in (1e9, 0.01))
        rollout = made_up_rollout(len(tasks))
        norms = [float(one.update_on(rollout, tasks)[3]) for one in (free, clipped)]
        assert norms[0] == norms[1] > 0.01
        for task in tasks:
            pieces = []
            for one in (free, clipped):
                rows = [own[task].grad for own in one.per_task] + [row.grad for row in one.shared]
                pieces.append(torch.cat([row for row in rows if row is not None]))
            assert float(pieces[1].norm()) == pytest.approx(0.01, rel=1e-3)
            scale = float(pieces[1].norm() / pieces[0].norm())
            assert torch.allclose(pieces[1], scale * pieces[0], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[0], [0], [1], [1], [2], [2]]),
        ({"order": "together"}, [[0, 1, 2], [0, 1, 2]]),
        ({"sharing": "none"}, [[0, 1, 2], [0, 1, 2]]),
    ],
)
def test_the_task_order_is_configurable(changes: dict[str, Any], expected: list[list[int]]) -> None:
    env = PointMasses()
    learner = learner_of(env, t_max=2, **changes)
    learner.step()
    assert env.stepped == expected
    assert learner.env_steps == 2 * 6
    assert learner.updates == len(expected) // 2


def test_a_random_order_draws_the_task_of_each_update() -> None:
    env = PointMasses()
    learner = learner_of(env, t_max=1, order="random")
    for _ in range(100):
        learner.step()
    assert len(env.stepped) == 300 == learner.updates
    counts = [env.stepped.count([task]) for task in range(3)]
    assert sum(counts) == 300 and min(counts) > 60


def test_the_rollout_equals_the_environment_steps() -> None:
    """Actions follow from the observations and the noise; a task's turn leaves the others."""
    env = PointMasses(3, 2, horizon=3)
    learner = learner_of(env, t_max=4)
    others = learner.obs[[0, 2]].clone()
    rollout = learner.collect([1])
    assert rollout.obs.shape == (4, 1, 2, 2)
    assert torch.equal(learner.obs[[0, 2]], others)
    assert torch.equal(rollout.ended[:, 0, 0], torch.tensor([False, False, True, False]))
    running = ~rollout.ended[:-1]
    assert torch.equal(rollout.next_obs[:-1][running], rollout.obs[1:][running])
    assert not torch.equal(rollout.next_obs[2], rollout.obs[3])
    assert torch.equal(learner.obs[[1]], rollout.next_obs[-1])
    mean, log_std = learner.actor.distribution(rollout.obs[:, 0], torch.tensor([1] * 4))
    z = (rollout.action[:, 0] - mean) / log_std.exp()
    again = learner_of(PointMasses(3, 2, horizon=3))
    assert torch.allclose(z, again.normal(4, 1, 2, 2)[:, 0], atol=1e-5)


def test_statistics_of_each_task() -> None:
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, count, 3, generator=draw) * 3 + 1 for count in (5, 1, 9)]
    parts = [part * torch.tensor([1.0, 4.0])[:, None, None] for part in parts]
    normalizer, whole = Normalizer(3, rows=2), torch.cat(parts, dim=1)
    for part in parts:
        normalizer.update(part)
    mean, std = whole.mean(dim=1, keepdim=True), whole.std(dim=1, keepdim=True, correction=0)
    expected = ((whole - mean) / std).clamp(-5, 5)
    assert torch.allclose(normalizer(whole), expected, atol=1e-5)
    one = normalizer.of_rows(torch.tensor([1]))(whole[[1]])
    assert torch.allclose(one, expected[[1]], atol=1e-5)


VARIANTS: dict[str, dict[str, Any]] = {
    "cycle": {},
    "random": {"order": "random"},
    "together": {"order": "together"},
    "alone": SHARED_ALONE,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_run_resumes_bit_for_bit(variant: str, tmp_path: Path) -> None:
    def fresh(seed: int) -> A2C:
        env = PointMasses(3, 2, horizon=7, stop=0.15)
        return learner_of(env, seed, **VARIANTS[variant], final_lr=0.2)

    assert_goes_on(fresh, tmp_path, before=4, after=5)


def score(learner: A2C) -> float:
    env = PointMasses(3, 40, horizon=10)
    return float(play_episodes(env, learner.actor.mean_action, seed=99).returns.mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns(variant: str) -> None:
    """Better than a policy that is not conditioned on the task and goes to the centre."""
    config = A2CConfig(hidden=(16, 16), critic_hidden=(16, 16), lr=5e-3, final_lr=0.1, gamma=0.8)
    steps = 5 * 3 * 16 * (120 if variant in ("cycle", "random") else 250)
    config = replace(config, **VARIANTS[variant])
    learner = A2C(config, PointMasses(3, 16, horizon=10), steps, seed=0)
    start = score(learner)
    while learner.env_steps < steps:
        learner.step()
    middle = play_episodes(PointMasses(3, 40, horizon=10), lambda obs: -4 * obs, seed=99)
    found = score(learner)
    print(f"{variant}: {start:.2f} -> {found:.2f}, middle {float(middle.returns.mean()):.2f}")
    assert found > 0.5 * start
    assert found > float(middle.returns.mean()) + 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": ()}, ("hidden", "()")),
        ({"critic_hidden": (0,)}, ("critic_hidden", "(0,)")),
        ({"sharing": "all"}, ("sharing", "'all'", "trunk, none")),
        ({"order": "sorted"}, ("order", "'sorted'", "cycle, random, together")),
        ({"t_max": 0}, ("t_max", "0")),
        ({"gamma": 1.5}, ("gamma", "1.5")),
        ({"lr": 0.0}, ("lr", "0")),
        ({"entropy_weight": -1.0}, ("entropy_weight", "-1")),
    ],
)
def test_illegal_run_settings_are_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as found:
        A2CConfig(**changes)
    assert all(word in str(found.value) for word in words)
