"""Distillation: the divergence, who collects rollouts, and runs that learn, resume where they
stopped, and refuse other teachers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, assert_goes_on
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from polyreach.envs.task_env import TaskEnv, play_episodes
from polyreach.errors import UserError
from polyreach.methods.distillation import DIVERGENCE, Distillation, DistillationConfig
from polyreach.methods.trained_policy import AdaptedPolicy, PolicyReader, TrainedPolicy


def normals(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw), 0.5 * torch.randn(shape, generator=draw)


def test_the_divergence_by_hand() -> None:
    one, two = (torch.tensor([[[0.0]]]), torch.tensor([[[0.0]]])), normals(1, 1, 1)
    two = (torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]]).log())
    # KL(N(0, 1) || N(1, 2)) = log 2 + (1 + 1) / 8 - 1/2
    assert float(DIVERGENCE["teacher_student"](one, two)) == pytest.approx(0.693147 + 0.25 - 0.5)
    # KL(N(1, 2) || N(0, 1)) = -log 2 + (4 + 1) / 2 - 1/2
    assert float(DIVERGENCE["student_teacher"](one, two)) == pytest.approx(-0.693147 + 2.5 - 0.5)


def test_the_divergence_is_that_of_torch_and_of_equation_4() -> None:
    teacher, student = normals(2, 5, 3), normals(2, 5, 3, seed=1)
    t, s = (Normal(mean, log_std.exp()) for mean, log_std in (teacher, student))
    for name, expected in (
        ("teacher_student", kl_divergence(t, s)),
        ("student_teacher", kl_divergence(s, t)),
    ):
        found = DIVERGENCE[name](teacher, student)  # type: ignore[index]
        assert torch.allclose(found, expected.sum(dim=-1), atol=1e-5)
    # eq. 4 as printed, with matrices
    sigma_t, sigma_s = (torch.diag_embed((2 * one[1]).exp()) for one in (teacher, student))
    difference = (teacher[0] - student[0])[..., None]
    inverse = sigma_t.inverse()
    trace = (inverse @ sigma_s).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    printed = 0.5 * (sigma_t.det().log() - sigma_s.det().log() - 3 + trace)
    printed = printed + 0.5 * (difference.mT @ inverse @ difference)[..., 0, 0]
    assert torch.allclose(DIVERGENCE["student_teacher"](teacher, student), printed, atol=1e-4)
    both = [
        MultivariateNormal(one[0], sigma) for one, sigma in ((teacher, sigma_t), (student, sigma_s))
    ]
    assert torch.allclose(
        DIVERGENCE["teacher_student"](teacher, student), kl_divergence(*both), atol=1e-4
    )


def test_squashing_does_not_change_the_divergence() -> None:
    """E_T[log pi_T(a) - log pi_S(a)] of actions a = tanh(u) is the divergence of the u."""
    teacher, student = (
        (torch.tensor(0.3), torch.tensor(0.5).log()),
        (torch.tensor(-0.2), torch.tensor(0.8).log()),
    )
    t, s = (
        TransformedDistribution(Normal(mean.double(), log_std.exp().double()), [TanhTransform()])
        for mean, log_std in (teacher, student)
    )
    u = torch.linspace(0.3 - 4.0, 0.3 + 4.0, 20_001, dtype=torch.float64)
    a = torch.tanh(u)
    density = Normal(0.3, 0.5).log_prob(u).exp()
    found = torch.trapezoid(density * (t.log_prob(a) - s.log_prob(a)), u)
    expected = DIVERGENCE["teacher_student"](*((m[None], d[None]) for m, d in (teacher, student)))
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def pulling_teacher(
    name: str, env: PointMasses, squashes: bool = False, gain: float = 4.0, sha256: str = "a" * 64
) -> AdaptedPolicy:
    """Goes to the target of each task."""

    def distribution(obs: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        mean = gain * (env.target[tasks] - obs)
        return mean, torch.full_like(mean, 0.3).log()

    def action(obs: Tensor, tasks: Tensor) -> Tensor:
        return distribution(obs, tasks)[0].clamp(-1, 1)

    return AdaptedPolicy(name, sha256, (0, 1, 2), action, distribution, squashes)


@dataclass(frozen=True)
class Adapted(TrainedPolicy):
    """A trained policy that acts as `policy` in every environment."""

    policy: AdaptedPolicy

    def adapt(self, env: TaskEnv) -> AdaptedPolicy:
        return self.policy


def reader(teachers: Iterable[AdaptedPolicy]) -> PolicyReader:
    """Reads `teachers` by their paths, from nowhere."""
    policies = {
        teacher.path: Adapted(teacher.path, teacher.sha256, "", teacher) for teacher in teachers
    }
    return policies.__getitem__


def student_of(
    env: PointMasses | None = None,
    seed: int = 0,
    teachers: Sequence[AdaptedPolicy] = (),
    total_steps: int = 1000,
    **changes: Any,
) -> Distillation:
    """A small student, prepared, by default of one pulling teacher."""
    env = env or PointMasses()
    teachers = teachers or (pulling_teacher("one", env),)
    settings = replace(
        DistillationConfig(hidden=(16, 16), teachers=tuple(teacher.path for teacher in teachers)),
        **changes,
    )
    student = Distillation(settings, env, total_steps, seed)
    student.prepare(reader(teachers))
    return student


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
@pytest.mark.parametrize("match", ["distribution", "action"])
def test_the_loss_of_every_direction_and_match(direction: str, match: str) -> None:
    student = student_of(direction=direction, match=match, std=0.2)
    obs = torch.rand(3, 5, 2) * 2 - 1
    tasks = [0, 1, 2]
    found = student.losses(
        obs, student.teacher_distribution(obs, tasks), None, student.actor.net.weights()
    )
    assert isinstance(student.env, PointMasses)
    mean, std = 4 * (student.env.target - obs), 0.3
    if match == "action":
        mean, std = mean.clamp(-1, 1), 0.2
    with torch.no_grad():
        own_mean, own_log_std = student.actor.distribution(obs)
    pair = [Normal(mean, torch.full_like(mean, std)), Normal(own_mean, own_log_std.exp())]
    expected = kl_divergence(*(pair if direction == "teacher_student" else pair[::-1]))
    assert torch.allclose(found, expected.sum(dim=-1).mean(dim=-1), rtol=1e-4)


def test_each_head_has_its_teacher() -> None:
    env = PointMasses()
    gains = {"slow": 1.0, "fast": 2.0, "faster": 3.0}
    teachers = [pulling_teacher(name, env, gain=gain) for name, gain in gains.items()]
    student = student_of(env, teachers=teachers)
    obs = torch.zeros(2, 4, 2)
    mean, _ = student.teacher_distribution(obs, [2, 1])
    assert torch.allclose(mean, torch.stack([3 * env.target[2], 2 * env.target[1]]).expand(2, 4, 2))


def test_an_update_touches_the_trunk_and_the_tasks_own_head_only() -> None:
    student = student_of()
    student.step()
    net = student.actor.net
    own, shared = net.own.detach().clone(), net.shared.detach().clone()
    student.turn([1])
    assert torch.equal(net.own[[0, 2]], own[[0, 2]])
    assert bool((net.own[1] != own[1])[net.split].all())
    assert torch.equal(net.shared[net.split], shared[net.split])
    assert float((net.shared != shared)[~net.split].float().mean()) > 0.9


@pytest.mark.parametrize("squashes", [False, True])
def test_the_student_imitates_its_teachers(squashes: bool) -> None:
    env = PointMasses()
    student = student_of(env, teachers=[pulling_teacher("one", env, squashes)])
    with torch.no_grad():
        student.actor.net.own.add_(2.0)
    obs = torch.rand(3, 5, 2)
    with torch.no_grad():
        mean, _ = student.actor.distribution(obs)
    expected = torch.tanh(mean) if squashes else mean.clamp(-1, 1)
    assert torch.equal(student.actor.mean_action(obs), expected)
    assert float(mean.abs().max()) > 1
    assert student.actor.squashes is squashes
    with torch.no_grad():
        noisy = student.actor_act([0, 1, 2])(obs, torch.full((3, 5, 2), 50.0))
    assert (float(noisy.abs().max()) <= 1) is squashes
    taught = student.teacher_act([0, 1, 2])(obs, torch.zeros(3, 5, 2))
    wanted = 4 * (env.target - obs)
    assert torch.allclose(taught, torch.tanh(wanted) if squashes else wanted)


def test_rollouts_of_the_students_have_their_probabilities_per_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each goes on where its own last rollout ended."""
    student = student_of(PointMasses(3, 2, horizon=1000), student_share=0.3, t_max=2)
    places: dict[bool, Tensor] = {}
    seen = []
    collect = student.collect

    def spy(tasks: list[int], actor: Any = None) -> Any:
        by_student = actor is None
        seen.append(by_student)
        rollout = collect(tasks, actor)
        assert by_student == student.student_acts
        if by_student in places:
            assert torch.equal(rollout.obs[0], places[by_student][tasks])
        places[by_student] = student.obs.clone()
        return rollout

    monkeypatch.setattr(student, "collect", spy)
    for _ in range(100):
        student.step()
    assert 0.2 < sum(seen) / len(seen) < 0.4 and len(seen) == 300
    assert not torch.equal(places[True], places[False])
    assert student.env_steps == 300 * 2 * 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_student_or_teacher_may_collect_all_rollouts(share: float) -> None:
    student = student_of(student_share=share)
    student.step()
    assert student.student_acts is (share == 1.0) and not student.elsewhere


def test_the_teacher_acts_with_a_probability_that_falls_to_zero() -> None:
    """In single actions, not in whole rollouts, and in none once the share `mixing` is over."""
    student = student_of(PointMasses(3, 50), total_steps=1000, mixing=0.4)
    obs, noise = torch.rand(3, 50, 2), torch.zeros(3, 50, 2)
    taught = student.teacher_act([0, 1, 2])(obs, noise)
    for env_steps, beta in ((0, 1.0), (100, 0.75), (300, 0.25)):
        student.env_steps = env_steps
        act = student.act_of(True, [0, 1, 2])
        assert act is not None
        by_teacher = (act(obs, noise) == taught).all(dim=-1)
        assert float(by_teacher.float().mean()) == pytest.approx(beta, abs=0.12)
    for env_steps in (400, 900):
        student.env_steps = env_steps
        assert student.act_of(True, [0, 1, 2]) is None
    assert student_of().act_of(True, [0, 1, 2]) is None, "the paper's student acts alone"


def test_updates_are_on_states_of_all_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the answers that the teacher gave there."""
    env = PointMasses(3, 2, horizon=1000)
    student = student_of(env, memory=1000, batch_size=64, updates=3, t_max=4)
    visited: list[set[float]] = [set(), set(), set()]
    batches: list[tuple[int, set[float]]] = []
    collect, update_on = student.collect, student.update_on

    def spy_collect(tasks: list[int], act: Any = None) -> Any:
        rollout = collect(tasks, act)
        visited[tasks[0]] |= set(rollout.obs[..., 0].flatten().tolist())
        return rollout

    def spy_update(obs: Tensor, target: Any, tasks: list[int]) -> Tensor:
        assert torch.equal(target[0], 4 * (env.target[tasks] - obs))
        assert obs.shape == (1, 64, 2)
        batches.append((tasks[0], set(obs[..., 0].flatten().tolist())))
        return update_on(obs, target, tasks)

    monkeypatch.setattr(student, "collect", spy_collect)
    monkeypatch.setattr(student, "update_on", spy_update)
    for _ in range(5):
        student.step()
    assert len(batches) == 5 * 3 * 3 and student.updates == 5 * 3 * 3
    for task, seen in batches:
        assert seen <= visited[task]
    last = [seen for task, seen in batches if task == 0][-3:]
    assert len(set.union(*last)) > 30, "of 40 visited, 8 of them in the last rollout"


def test_the_last_updates_come_before_the_last_rollout() -> None:
    """All on the states of the rollouts so far; only then the learning rate falls."""
    env = PointMasses(3, 2, horizon=1000)
    steps = 5 * 4 * 6
    student = student_of(
        env, total_steps=steps, memory=1000, updates=4, last_updates=10, t_max=4, final_lr=0.5
    )
    trace = []
    while student.env_steps < steps:
        metrics = student.step()
        rate = student.optimizer.param_groups[0]["lr"] / student.config.lr
        trace.append((student.env_steps, student.updates, "reward" in metrics, rate))
    turns = [(24 * i, 12 * i, True, 1.0) for i in range(1, 5)]
    # 4, 4 and 2 more of each of 3 tasks; the rate follows those before an update
    fits = [
        (96, 48 + 12, False, pytest.approx(1 - 0.5 * 0.3)),
        (96, 48 + 24, False, pytest.approx(1 - 0.5 * 0.7)),
        (96, 48 + 30, False, pytest.approx(1 - 0.5 * 0.9)),
    ]
    assert trace == [*turns, *fits, (120, 78 + 12, True, 0.5)]


def test_the_last_updates_are_of_a_student_that_starts_anew() -> None:
    env = PointMasses(3, 2, horizon=1000)
    student = student_of(env, total_steps=48, memory=100, updates=1, last_updates=1, t_max=4)
    student.step()
    student.config = replace(student.config, lr=1e-12)
    student.rates[student.optimizer] = 1e-12
    net, statistics = student.actor.net, student.actor.normalizer.mean.clone()
    net.shared.data += 5.0
    net.own.data += 5.0
    student.step()
    assert student.fitted == 1 and torch.equal(student.actor.normalizer.mean, statistics)
    hidden = net.layers(net.weights())[0]
    assert torch.allclose(hidden.norm(dim=1), torch.ones(()), atol=1e-4)
    assert float(student.actor.distribution(torch.zeros(3, 1, 2))[1].detach().abs().max()) < 0.05


VARIANTS: dict[str, dict[str, Any]] = {
    "student's states": {},
    "both": {"student_share": 0.5, "order": "random"},
    "teacher's states": {"student_share": 0.0},
    "student || teacher": {"direction": "student_teacher"},
    "actions": {"match": "action", "order": "together"},
    "nothing shared": {"sharing": "none"},
    "DAgger": {"memory": 400, "batch_size": 16, "updates": 2, "mixing": 0.5},
    "DAgger, last updates": {"memory": 400, "batch_size": 16, "updates": 2, "last_updates": 400},
    "DAgger, nothing shared": {"memory": 400, "batch_size": 16, "mixing": 0.5, "sharing": "none"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns(variant: str) -> None:
    """Nearly the return of the teacher, which knows the targets."""
    env = PointMasses(3, 8, horizon=10)
    changes = VARIANTS[variant]
    updates = 300 if changes.get("order") == "together" or "sharing" in changes else 100
    steps = updates * 5 * 24
    student = student_of(env, total_steps=steps, lr=5e-3, final_lr=0.1, **changes)
    test = PointMasses(3, 40, horizon=10)

    def score(act: Any) -> float:
        return float(play_episodes(test, act, seed=99).returns.mean())

    start = score(student.actor.mean_action)
    while student.env_steps < steps:
        student.step()
    found = score(student.actor.mean_action)
    taught = score(lambda obs: 4 * (test.target - obs))
    print(f"{variant}: {start:.2f} -> {found:.2f}, teacher {taught:.2f}")
    assert found > taught - 0.1 * (taught - start)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_run_resumes_bit_for_bit(variant: str, tmp_path: Path) -> None:
    def fresh(seed: int) -> Distillation:
        env = PointMasses(3, 2, horizon=7, stop=0.15)
        return student_of(env, seed, **VARIANTS[variant], final_lr=0.2)

    read = reader([pulling_teacher("one", PointMasses())])
    assert_goes_on(fresh, tmp_path, before=4, after=6, read=read)


def test_a_run_does_not_resume_with_another_teacher() -> None:
    env = PointMasses()
    student = student_of(env)
    student.step()
    state = student.state_dict()
    assert state["teachers"] == {"one": "a" * 64}
    changed = reader([pulling_teacher("one", env, sha256="b" * 64)])
    with pytest.raises(UserError, match="teacher 'one' has changed since.*aaaaaaaaaaaa.*bbbbbbbb"):
        student_of(env).resume(state, changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": 2}, "updates is 2, but without a memory a rollout has 1"),
        ({"last_updates": 5}, "last_updates is 5, but there is no memory to learn from"),
        ({"memory": 10, "last_updates": -1}, "last_updates is -1, but must be at least 0"),
    ],
)
def test_updates_without_a_memory_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DistillationConfig(**changes)


def test_incompatible_teachers_are_refused() -> None:
    env = PointMasses()
    one, squashing = pulling_teacher("one", env), pulling_teacher("two", env, squashes=True)
    still = replace(pulling_teacher("three", env), distribution=None)
    lost = replace(one, rows=(0, -1, 2))

    def prepare(*teachers: AdaptedPolicy, **changes: Any) -> Distillation:
        return student_of(env, teachers=teachers, **changes)

    with pytest.raises(UserError, match="teachers are 2, but must be one .* target_1, target_2"):
        prepare(one, squashing)
    with pytest.raises(UserError, match="'one' and 'two' one squashes.*match action"):
        prepare(one, squashing, replace(one, path="other"))
    with pytest.raises(UserError, match="'three' has no distribution.*match action"):
        prepare(still)
    with pytest.raises(UserError, match="'one' was not trained on the task 'target_1'"):
        prepare(lost)
    for teachers in ((still,), (one, squashing, still)):
        assert not prepare(*teachers, match="action").actor.squashes
    wrong: tuple[dict[str, Any], ...] = (
        {"direction": "both"},
        {"match": "mean"},
        {"std": 0.0},
        {"student_share": 2.0},
        {"mixing": 1.5},
        {"memory": -1},
        {"batch_size": 0},
        {"updates": 2},
    )
    for changes in wrong:
        with pytest.raises(UserError, match=next(iter(changes))):
            DistillationConfig(**changes)
