"""ARS: scales against arithmetic by hand, and resets when they are due. That runs learn and resume
across a reset is tested in test_task_learning.py.
"""

import pytest
import torch
from task_fakes import PointMasses, ScaledRewards, make, no_policies, random_batch, weights

from polyreach.errors import UserError
from polyreach.methods.ars import ARS, ARSConfig, reward_scales
from polyreach.methods.mtsac import MTSAC
from polyreach.storage.replay import Batch


def stored(rewards: list[list[float]]) -> Batch:
    """Transitions with these rewards (T, n)."""
    batch = random_batch(len(rewards), len(rewards[0]))
    return batch._replace(reward=torch.tensor(rewards))


def test_scales_by_hand() -> None:
    assert reward_scales(torch.tensor([2.0, 0.5, 4.0])).flatten().tolist() == [2.0, 8.0, 1.0]
    # a task without rewards has nothing to be scaled
    assert reward_scales(torch.tensor([0.0, 5.0])).flatten().tolist() == [1.0, 1.0]
    assert reward_scales(torch.zeros(2)).flatten().tolist() == [1.0, 1.0]


def test_scales_are_those_of_the_rewards_in_the_replay() -> None:
    learner = make(ARS, ARSConfig(), replay_size=4)
    learner.replay.add(stored([[1.0, 3.0], [0.5, 0.0], [-8.0, 8.0]]))
    learner.take_scales()
    # mean magnitudes 2, 0.25 and 8
    assert learner.scale.flatten().tolist() == [4.0, 32.0, 1.0]
    sampled = learner.sample().reward
    assert set(sampled[0].tolist()) <= {4.0, 12.0} and set(sampled[1].tolist()) <= {16.0, 0.0}
    assert set(learner.sample([2]).reward[0].tolist()) <= {-8.0, 8.0}
    # a ring of 4: newer transitions have replaced the first
    learner.replay.add(stored([[1.0, 1.0, 1.0, 1.0]] * 3))
    learner.take_scales()
    assert learner.scale.flatten().tolist() == [1.0, 1.0, 1.0]


def test_the_first_scales_are_taken_before_the_first_update() -> None:
    factors = (0.01, 1.0, 100.0)
    learner = make(ARS, ARSConfig(), ScaledRewards(factors), learning_starts=10)
    while learner.updates == 0:
        assert torch.equal(learner.scale, torch.ones(3, 1))
        learner.step()
    assert learner.env_steps == learner.first_update == 30
    r = [float(rewards.abs().double().mean()) for rewards in learner.replay.rewards()]
    assert learner.scale.flatten().tolist() == pytest.approx([max(r) / own for own in r])
    assert learner.scale[0] > 1000
    scale = learner.scale.clone()
    learner.step()
    assert torch.equal(learner.scale, scale), "until the next reset"


@pytest.mark.parametrize(
    ("total", "resets", "due"),
    [
        (600, 4, [120, 240, 360, 480]),
        (100, 2, [36, 72]),  # the first whole steps of six environments after 33.3 and 66.7
        (60, 0, []),
    ],
)
def test_resets_divide_the_run_evenly(total: int, resets: int, due: list[int]) -> None:
    learner = make(ARS, ARSConfig(resets=resets), total_steps=total)
    found, count = [], 0
    while learner.env_steps < total:
        metrics = learner.step()
        if learner.env_steps >= learner.first_update:
            assert metrics["resets"] in (count, count + 1)
            if metrics["resets"] > count:
                found.append(learner.env_steps)
            count = int(metrics["resets"])
    assert found == due


def test_a_reset_renews_the_networks_and_keeps_the_replay() -> None:
    learner = make(ARS, ARSConfig(resets=2, initial_alpha=0.2), total_steps=90, final_lr=0.5)
    fresh = make(ARS, ARSConfig(resets=2, initial_alpha=0.2), total_steps=90, final_lr=0.5, seed=1)
    seen = []
    for _ in range(2):
        while learner.env_steps + 6 < learner.next_reset:
            learner.step()
        before = [weights(net) for net in (learner.actor, learner.critic)]
        rows, scale = learner.replay.store.clone(), learner.scale
        assert learner.actor_optimizer.state and not torch.allclose(
            learner.alpha(), torch.tensor(0.2)
        )
        learner.step()
        for net, old in zip((learner.actor, learner.critic), before, strict=True):
            new = weights(net)
            assert not any(torch.equal(a, b) for a, b in zip(new, old, strict=True))
        # of the size of new weights
        for own, other in zip(weights(learner.actor), weights(fresh.actor), strict=True):
            assert float(own.abs().max()) <= 2 * float(other.abs().max())
        for name in ("actor", "critic"):
            assert not any(
                (parameter == 0).all() for parameter in getattr(learner, name).parameters()
            )
        assert all(
            torch.equal(a, b)
            for a, b in zip(weights(learner.target_critic), weights(learner.critic), strict=True)
        )
        assert torch.allclose(learner.alpha(), torch.tensor(0.2))
        for optimizer in learner.rates:
            assert not optimizer.state
        size = learner.replay.size[0] - 2
        assert torch.equal(learner.replay.store[:, :size], rows[:, :size])
        assert not torch.equal(learner.scale, scale)
        seen.append(weights(learner.actor)[0])
    assert not torch.equal(*seen)
    # the learning rate goes on to fall
    assert learner.actor_optimizer.param_groups[0]["lr"] < learner.config.actor_lr
    assert "critic_loss" in learner.step()


def test_new_weights_do_not_depend_on_the_state_of_pytorch() -> None:
    runs = [make(ARS, ARSConfig(resets=1), total_steps=60) for _ in range(2)]
    for shift, run in enumerate(runs):
        while run.env_steps < 42:
            torch.manual_seed(shift)
            run.step()
        assert run.resets_done == 1
    for one, other in zip(*(weights(run.critic) for run in runs), strict=True):
        assert torch.equal(one, other)


def test_equal_rewards_without_resets_are_mtsac() -> None:
    runs = [
        make(ARS, ARSConfig(resets=0), PointMasses(1)),
        make(MTSAC, ARSConfig(resets=0), PointMasses(1)),
    ]
    for _ in range(8):
        scaled, plain = (run.step() for run in runs)
        assert {key: scaled[key] for key in plain} == plain
    assert {"resets", "scale_max"} == set(scaled) - set(plain)


def test_a_reset_before_the_first_update_is_refused() -> None:
    learner = make(ARS, ARSConfig(resets=4), total_steps=600, learning_starts=30)
    learner.prepare(no_policies)
    message = (
        "resets is 9, so that the first comes after 60 of 600 steps, but the first update comes "
        "after 90"
    )
    with pytest.raises(UserError, match=message):
        make(ARS, ARSConfig(resets=9), total_steps=600, learning_starts=30).prepare(no_policies)
    with pytest.raises(UserError, match="resets is -1, but must be at least 0"):
        ARSConfig(resets=-1)
