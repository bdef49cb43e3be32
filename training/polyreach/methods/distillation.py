"""Distillation of one or many teachers into a student with a head per task
(multitask-continuous-control-2018, sections 3.1.3 and 3.1.4; after Rusu et al. 2016,
arXiv:1511.06295).

Letters are the paper's: T_i the teacher of head h_i, S the student, N(mu, Sigma) the normal
distribution of a policy's actions, p_s the probability that a rollout is the student's and not the
teacher's. One turn is a rollout of t_max steps in E_i and a step down L = D_KL(N_T, N_S), the mean
over the states of the rollout. Student and teacher act in separate environments, so that no episode
mixes their actions. The student has no critic.

The text of the paper gives KL(teacher || student) and refers to eq. 4, but eq. 4 as printed is
KL(student || teacher). Both are options, see `direction`.

A teacher is any trained policy (see trained_policy.py). The student matches one of:

- `match` distribution: its normal distribution. Policies of A2C and PPO draw the action itself, and
  the environment clips it. Those of the SAC family draw u, and their action is tanh(u); the student
  then matches the distribution of u, and its action is tanh(u) too. tanh is a bijection, which does
  not change a divergence, so this is the divergence of the distributions of actions. All teachers
  of a student must be of the same kind.
- `match` action: its action without noise, as the mean of a normal distribution with standard
  deviation `std`. Teachers of all kinds can then be mixed, including deterministic policies and
  exported files.

What the paper leaves open, and what is done here: networks, optimiser, clipping and normalisation
are those of A2C (see a2c.py); p_s is 1, as in the paper's multi-task case. Teachers are frozen:
every checkpoint holds a digest of their weights, and a run is not resumed with other weights.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_choice, check_range
from polyreach.methods.learner import Metrics, NoisyAct
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.multi_head import HeadsConfig, HeadsLearner, tuned_heads
from polyreach.methods.trained_policy import AdaptedPolicy, Normal, PolicyReader
from polyreach.networks.gaussian import normal_divergence
from polyreach.networks.multi_head import GaussianHeads
from polyreach.storage.rollout import by_task

PAPER = "Arora et al. 2018, Multi-task Learning for Continuous Control: distillation"

Direction = Literal["teacher_student", "student_teacher"]
Match = Literal["distribution", "action"]


@dataclass(frozen=True)
class DistillationConfig(HeadsConfig):
    """Settings of distillation."""

    teachers: tuple[str, ...] = ()
    """Run folders, and on robots also .onnx files: one teacher for all tasks, or one for each task
    in order.
    """
    direction: Direction = "teacher_student"
    """teacher_student: KL(teacher || student). student_teacher: KL(student || teacher), which is
    eq. 4 as printed.
    """
    match: Match = "distribution"
    """distribution: match the distribution of the teacher's actions. action: match its action
    without noise; see `std`.
    """
    std: float = 0.1
    """Standard deviation that replaces the teacher's if `match` is action."""
    student_share: float = 1.0
    """Probability that a rollout is the student's, p_s."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_choice(self, direction=DIVERGENCE, match=("distribution", "action"))
        check_range("std", self.std, 1e-6)
        check_range("student_share", self.student_share, 0.0, 1.0)


class Student(GaussianHeads):
    """Squashes its actions by tanh if its teachers do."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.squash: Tensor
        self.register_buffer("squash", torch.zeros((), dtype=torch.bool))

    @property
    def squashes(self) -> bool:
        """Whether actions are the tanh of what is drawn."""
        return bool(self.squash)

    def to_action(self, u: Tensor) -> Tensor:
        """What is done when u was drawn."""
        return torch.where(self.squash, torch.tanh(u), u)


class Distillation(HeadsLearner):
    """A student, and the teachers once `prepare` has read them."""

    actor: Student

    def __init__(
        self, config: DistillationConfig, env: TaskEnv, total_steps: int, seed: int
    ) -> None:
        super().__init__(config, env, total_steps, seed)
        self.config, self.seed = config, seed
        self.actor = Student(
            env.tasks,
            env.obs_size,
            config.hidden,
            env.action_size,
            config.sharing,
            config.initial_std,
        )
        self.actor.to(self.device)
        self.parts["actor"] = self.actor
        self.optimize(self.actor.net, lr=config.lr)
        self.teachers: list[AdaptedPolicy] = []
        # who acts in the environments now, and the state of the other's environments
        self.student_acts = config.student_share > 0
        self.elsewhere: dict[str, Any] = {}

    def prepare(self, read: PolicyReader) -> None:
        """Read the teachers, which only training needs. Raises UserError if they cannot teach."""
        self.teachers = read_teachers(self.config, self.env, read)
        self.actor.squash.fill_(self.config.match == "distribution" and self.teachers[0].squashes)
        if 0.0 < self.config.student_share < 1.0 and not self.elsewhere:
            student = {"env": copy.deepcopy(self.env.state_dict()), "obs": self.obs.clone()}
            self.obs = self.env.reset(self.seed + 3)
            self.elsewhere = student
            self.exchange()

    def exchange(self) -> None:
        """Store the state of the environments, and continue from the other stored state."""
        current = {"env": copy.deepcopy(self.env.state_dict()), "obs": self.obs}
        self.env.load_state_dict(self.elsewhere["env"])
        self.obs = self.elsewhere["obs"].to(self.device)
        self.elsewhere = current

    def step(self) -> Metrics:
        """A turn of every task: a rollout and an update on it; metrics are means over turns."""
        assert self.teachers, "prepare or resume comes first"
        means = torch.stack([self.turn(tasks) for tasks in self.turns()]).mean(dim=0).tolist()
        return dict(zip(("reward", "divergence", "grad_norm"), means, strict=True))

    def turn(self, tasks: list[int]) -> Tensor:
        """A rollout of `tasks` and the update on it; the metrics (3,)."""
        drawn = torch.rand((), generator=self.generator, device=self.device)
        student_acts = bool(drawn < self.config.student_share)
        if student_acts != self.student_acts:
            self.exchange()
            self.student_acts = student_acts
        rollout = self.collect(tasks, None if student_acts else self.teacher_act(tasks))
        obs = by_task(rollout.obs)  # (T', S n, O)
        metrics = self.update_on(obs, self.teacher_distribution(obs, tasks), tasks)
        self.actor.normalizer.update(obs)
        return torch.cat([rollout.reward.mean()[None], metrics])

    def teacher_act(self, tasks: list[int]) -> NoisyAct:
        """The teachers, with noise."""

        def act(obs: Tensor, noise: Tensor) -> Tensor:
            mean, log_std = self.teacher_distribution(obs, tasks)
            return self.actor.to_action(mean + log_std.exp() * noise)

        return act

    @torch.no_grad()
    def teacher_distribution(self, obs: Tensor, tasks: list[int]) -> Normal:
        """N(mu_T, Sigma_T): mean and log standard deviation (T', B, A) at obs (T', B, O)."""
        if len(self.teachers) == 1:
            return self.distribution_of(self.teachers[0], obs, tasks)
        rows = [
            self.distribution_of(self.teachers[task], row[None], [task])
            for task, row in zip(tasks, obs, strict=True)
        ]
        means, log_stds = zip(*rows, strict=True)
        return torch.cat(means), torch.cat(log_stds)

    def distribution_of(self, teacher: AdaptedPolicy, obs: Tensor, tasks: list[int]) -> Normal:
        """The same for one teacher."""
        rows = torch.tensor([teacher.rows[task] for task in tasks], device=self.device)
        if self.config.match == "distribution":
            assert teacher.distribution is not None  # see read_teachers
            return teacher.distribution(obs, rows)
        mean = teacher.action(obs, rows)
        return mean, torch.full_like(mean, self.config.std).log()

    def update_on(self, obs: Tensor, target: Normal, tasks: list[int]) -> Tensor:
        """One step of the optimiser; the mean loss and the norm of the gradient (2,)."""
        index = self.index(tasks)
        theta = self.actor.net.weights(index).detach().requires_grad_()
        task_loss = self.losses(obs, target, index, theta)
        norm = self.descend(torch.autograd.grad(self.reduce(task_loss), [theta]), tasks)
        return torch.stack([task_loss.detach().mean(), norm])

    def losses(self, obs: Tensor, target: Normal, tasks: Tensor | None, theta: Tensor) -> Tensor:
        """L of every task (T',), as a function of the student's weights `theta` (T', P)."""
        layers = self.actor.net.layers(theta)
        student = self.actor.outputs(layers, self.actor.normalize(obs, tasks))
        # L = D_KL(N(mu_T, Sigma_T), N(mu_S, Sigma_S))
        return DIVERGENCE[self.config.direction](target, student).mean(dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; for the teachers, digests."""
        phase = {
            "student_acts": self.student_acts,
            "elsewhere": copy.deepcopy(self.elsewhere),
            "teachers": {teacher.path: teacher.sha256 for teacher in self.teachers},
        }
        return {**super().state_dict(), **phase}

    def resume(self, state: dict[str, Any], read: PolicyReader) -> None:
        """Restore what state_dict returned. Raises UserError if a teacher has changed since."""
        self.teachers = read_teachers(self.config, self.env, read)
        for teacher in self.teachers:
            known = state["teachers"].get(teacher.path, teacher.sha256)
            if known != teacher.sha256:
                raise UserError(
                    f"teacher '{teacher.path}' has changed since the run was started (sha256 "
                    f"{known[:12]}... there, {teacher.sha256[:12]}... now)"
                )
        self.load_state_dict(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned, except the teachers."""
        super().load_state_dict(state)
        self.elsewhere = copy.deepcopy(state["elsewhere"])
        self.student_acts = state["student_acts"]


def read_teachers(
    config: DistillationConfig, env: TaskEnv, read: PolicyReader
) -> list[AdaptedPolicy]:
    """The teachers of a student: one for all tasks, or one for each.

    Raises UserError if they do not fit the tasks or each other.
    """
    if len(config.teachers) not in (1, env.tasks):
        raise UserError(
            f"teachers are {len(config.teachers)}, but must be one for all tasks, or one for each "
            f"of {', '.join(env.task_names)}, in turn (--method-config.teachers)"
        )
    by_path = {path: read(path).adapt(env) for path in dict.fromkeys(config.teachers)}
    teachers = [by_path[path] for path in config.teachers]
    each = teachers if len(teachers) > 1 else teachers * env.tasks
    for task, (teacher, name) in enumerate(zip(each, env.task_names, strict=True)):
        if teacher.rows[task] < 0:
            raise UserError(f"teacher '{teacher.path}' was not trained on the task '{name}'")
    if config.match == "action":
        return teachers
    for teacher in teachers:
        if teacher.distribution is None:
            raise UserError(
                f"teacher '{teacher.path}' has no distribution of the student's actions to match: "
                "take --method-config.match action"
            )
        if teacher.squashes != teachers[0].squashes:
            raise UserError(
                f"of the teachers '{teachers[0].path}' and '{teacher.path}' one squashes its "
                "actions by tanh and one does not: take --method-config.match action"
            )
    return teachers


DIVERGENCE: dict[Direction, Any] = {
    "teacher_student": lambda teacher, student: normal_divergence(*teacher, *student),
    "student_teacher": lambda teacher, student: normal_divergence(*student, *teacher),
}
"""Of the mean and log standard deviation of each, (T', B, A) -> (T', B)."""


# as many updates as the SAC family makes, and a match of actions: a student of SAC's policies for
# planar8 then succeeds in 98.0 % of 256 episodes, 64 of each task, and with a match of
# distributions in 95.3 % (one seed, 600,000 steps; its teachers 98.4 %)
TUNED = replace(tuned_heads(DistillationConfig()), t_max=1, match="action")

METHOD = Method(
    name="distillation",
    paper=PAPER,
    learner=Distillation,
    settings=DistillationConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, DistillationConfig()),
)
