"""KTM-DRL: TD3 and the transfer by hand, and the order of the phases."""

import math
from typing import Any

import pytest
import torch
from task_fakes import assert_same, make, no_policies, random_batch, step_plainly, weights
from torch import Tensor

from polyreach.errors import UserError
from polyreach.methods.ktm import KTM, KTMConfig, twin_loss
from polyreach.networks.mlp import TaskLinear


def learner_of(**changes: Any) -> KTM:
    settings: dict[str, Any] = {"teacher_share": 0.5, "transfer_updates": 7, "total_steps": 120}
    return make(KTM, KTMConfig(), **settings | changes)


def test_the_loss_of_twins_by_hand() -> None:
    q = torch.tensor([[[1.0, 2.0]], [[3.0, 5.0]]])
    # targets of each: ((1 - 0)^2 + (2 - 4)^2) / 2 + ((3 - 3)^2 + (5 - 1)^2) / 2
    assert twin_loss(q, torch.tensor([[[0.0, 4.0]], [[3.0, 1.0]]])).tolist() == [10.5]
    # one target for both: (1 + 4) / 2 + (9 + 1) / 2
    assert twin_loss(q, torch.tensor([[0.0, 4.0]])).tolist() == [7.5]


def test_the_student_learns_the_teachers_values() -> None:
    learner = learner_of(hidden=(6,), grad_clip=1e6)
    batch = random_batch(3, 4)
    student, teachers = learner.student, learner.teachers
    saved = {name: weights(getattr(teachers, name)) for name in ("actor", "critic")}
    loss, value = torch.zeros(()), torch.zeros(())
    for task in range(3):
        row = torch.tensor([task])
        for sample in range(4):
            obs, action = (
                batch.obs[task, sample][None, None],
                batch.action[task, sample][None, None],
            )
            wanted = teachers.critic(obs, action, row).detach()
            found = student.critic(obs, action, row)
            loss = loss + ((found[0] - wanted[0]) ** 2 + (found[1] - wanted[1]) ** 2).sum() / 12
            value = value + teachers.critic(obs, student.actor(obs, row), row)[0].sum() / 12
    expected = {}
    for name, objective in (("critic", loss), ("actor", -value)):
        parameters = list(getattr(student, name).parameters())
        gradients = torch.autograd.grad(objective, parameters)
        assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-2
        expected[name] = [
            w.detach() - gradient for w, gradient in zip(parameters, gradients, strict=True)
        ]
    student.critic_optimizer = step_plainly(student.critic.parameters())
    student.actor_optimizer = step_plainly(student.actor.parameters())
    metrics = learner.transfer(batch)
    assert float(metrics["transfer_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert float(metrics["transfer_q"]) == pytest.approx(float(value.detach()), rel=1e-4)
    for name in ("critic", "actor"):
        for new, wanted in zip(getattr(student, name).parameters(), expected[name], strict=True):
            assert torch.allclose(new, wanted, atol=1e-5)
        # targets start as the networks are; the teachers stay as they are
        assert_same(weights(getattr(student, f"target_{name}")), weights(getattr(student, name)))
        assert_same(weights(getattr(teachers, name)), saved[name])


def test_td3_targets_by_hand() -> None:
    learner = learner_of(gamma=0.5, target_noise=0.1, target_noise_clip=0.2)
    td3 = learner.teachers
    seen: list[Tensor] = []
    td3.target_actor = lambda obs: torch.tensor([0.5, -0.95]).expand(3, 2, 2)  # type: ignore[assignment]

    def target_critic(obs: Tensor, action: Tensor) -> Tensor:
        seen.append(action)
        return torch.tensor([[1.0, 5.0], [3.0, 4.0]])[:, None].expand(2, 3, 2)

    td3.target_critic = target_critic  # type: ignore[assignment]
    batch = random_batch(3, 2)._replace(
        reward=torch.tensor([[1.0, 2.0]] * 3), terminated=torch.tensor([[0.0, 1.0]] * 3)
    )
    noise = torch.tensor([[[1.0, -1.0], [9.0, -9.0]]]).expand(3, 2, 2)
    q = td3.critic(batch.obs, batch.action)
    found = td3.update(batch, noise, with_actor=False)
    # noise of 0.1 and -0.1, then clipped to 0.2 and -0.2; actions clipped to -1
    assert torch.allclose(seen[0][0], torch.tensor([[0.6, -1.0], [0.7, -1.0]]))
    # y = 1 + 0.5 min(1, 3) and 2, where nothing follows
    loss = (q - torch.tensor([1.5, 2.0])).square().mean(dim=-1).sum(dim=0).mean()
    assert float(found["critic_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)


def test_noise_on_target_actions_has_two_sides() -> None:
    learner = learner_of(target_noise=0.3, target_noise_clip=0.3, batch_size=2000)
    td3, seen = learner.teachers, list[Tensor]()
    td3.target_actor = lambda obs: torch.zeros(3, 2000, 2)  # type: ignore[assignment]

    def target_critic(obs: Tensor, action: Tensor) -> Tensor:
        seen.append(action)
        return torch.zeros(2, 3, 2000)

    td3.target_critic = target_critic  # type: ignore[assignment]
    learner.collect(None)
    learner.updates = 1  # no turn of the actor's
    learner.update()
    (epsilon,) = seen
    # a normal distribution clipped at one standard deviation: 15.87 % at either end
    for limit in (0.3, -0.3):
        assert float((epsilon == limit).float().mean()) == pytest.approx(0.1587, abs=0.015)
    assert float(epsilon.abs().max()) == pytest.approx(0.3)
    assert abs(float(epsilon.mean())) < 0.01
    assert float((epsilon > 0).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_the_actor_ascends_the_first_critic() -> None:
    learner = learner_of(grad_clip=1e6)
    td3, batch = learner.student, random_batch(3, 4)
    parameters = list(td3.actor.parameters())
    before = weights(td3.actor)
    td3.critic_optimizer = step_plainly(td3.critic.parameters(), 0.0)
    td3.actor_optimizer = step_plainly(parameters)
    value = td3.critic(batch.obs, td3.actor(batch.obs))[0].mean()
    expected = torch.autograd.grad(value, parameters)
    td3.update(batch, torch.zeros(3, 4, 2), with_actor=True)
    for old, gradient, new in zip(before, expected, parameters, strict=True):
        assert torch.allclose(old + gradient, new, atol=1e-6)


def test_actor_and_targets_are_delayed() -> None:
    learner = learner_of(actor_every=3, learning_starts=2, total_steps=10_000)
    names = ("actor", "target_actor", "target_critic", "critic")
    moved = []
    for _ in range(7):
        before = {name: weights(getattr(learner.teachers, name))[0] for name in names}
        learner.step()
        moved.append(
            [
                not torch.equal(before[name], weights(getattr(learner.teachers, name))[0])
                for name in names
            ]
        )
    every, critic_only = [True] * 4, [False, False, False, True]
    assert moved == [every, critic_only, critic_only] * 2 + [every]


def test_teachers_are_independent() -> None:
    runs = [learner_of() for _ in range(2)]
    for update in range(4):
        batch, noise = random_batch(3, 6, seed=update), torch.randn(3, 6, 2)
        reward = batch.reward.clone()
        reward[0] *= 100
        runs[0].teachers.update(batch, noise, with_actor=True)
        runs[1].teachers.update(batch._replace(reward=reward), noise, with_actor=True)
    for name in ("actor", "critic", "target_actor", "target_critic"):
        one, other = (weights(getattr(run.teachers, name)) for run in runs)
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left[:, 1:], right[:, 1:])
            assert not torch.equal(left[:, 0], right[:, 0])
    for module in runs[0].student.actor.modules():
        assert not isinstance(module, TaskLinear) or module.weight.shape[1] == 1


def test_phases_follow_one_another() -> None:
    learner = learner_of()
    history = []
    while learner.env_steps < 120:
        phase = (
            "teachers" if learner.teaching else "transfer" if learner.transferred < 7 else "student"
        )
        steps, replay = learner.env_steps, list(learner.replay.size)
        nets = {name: weights(getattr(learner, name).critic) for name in ("teachers", "student")}
        updates = learner.updates
        learner.step()
        history.append(phase)
        moved = [
            name
            for name, old in nets.items()
            if not torch.equal(old[0], weights(getattr(learner, name).critic)[0])
        ]
        if updates == learner.updates:
            assert moved == [] and learner.env_steps == 6
        else:
            assert moved == (["teachers"] if phase == "teachers" else ["student"])
        # the transfer takes no step of the environments
        assert learner.env_steps == steps + (0 if phase == "transfer" else 6)
        assert (learner.replay.size == replay) == (phase == "transfer")
    # half of 120 steps, 6 at a time
    assert history == ["teachers"] * 10 + ["transfer"] * 7 + ["student"] * 10
    assert learner.updates == 9 + 7 + 10
    assert learner.actor is learner.student.actor


def test_exploration_adds_noise_within_the_limits() -> None:
    learner = learner_of(exploration_noise=0.1)
    obs = torch.randn(1, 1, 2).expand(3, 4000, 2)
    action = learner.explore(obs, None)
    mean = learner.teachers.actor(obs[:, :1])
    assert float((action - mean).detach().std()) == pytest.approx(0.1, rel=0.05)
    assert torch.allclose(action.mean(dim=1, keepdim=True), mean, atol=0.01)
    loud = learner_of(exploration_noise=5.0).explore(obs, None)
    assert loud.min() == -1 and loud.max() == 1
    rows = torch.tensor([2])
    quiet = learner_of(exploration_noise=0.0).explore(obs[:1], rows)
    assert torch.allclose(quiet, mean[2:].expand(-1, 4000, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_share": 1.5}, "teacher_share is 1.5, but must be from"),
        ({"teacher_share": -0.5}, "teacher_share is -0.5, but must be from"),
        ({"transfer_updates": -1}, "transfer_updates is -1, but must be at least 0"),
        ({"exploration_noise": -0.1}, "exploration_noise is -0.1, but must be at least 0"),
        ({"target_noise": math.nan}, "target_noise is nan, but must be at least 0"),
        ({"target_noise_clip": -1.0}, "target_noise_clip is -1, but must be at least 0"),
        ({"actor_every": 0}, "actor_every is 0, but must be at least 1"),
    ],
)
def test_illegal_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        KTMConfig(**changes)


def test_the_teachers_must_leave_steps_to_the_student() -> None:
    # 120 steps, 6 at a time: the teachers' last ends at 114 of them, or takes them all
    learner_of(teacher_share=0.95).prepare(no_policies)
    with pytest.raises(UserError, match="0.97 of 120 steps is 120, but must .* leave steps to"):
        learner_of(teacher_share=0.97).prepare(no_policies)
    with pytest.raises(UserError, match="0.05 of 120 steps is 6, but must be at least the 12 "):
        learner_of(teacher_share=0.05).prepare(no_policies)
    # a replay that is full is enough to begin with
    learner_of(teacher_share=0.05, learning_starts=1000, replay_size=2).prepare(no_policies)
