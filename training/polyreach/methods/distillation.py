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
  deviation `std`. Teachers of all kinds can then be mixed, including deterministic policies,
  exported files and scripted policies.

With `memory` above 0 this is DAgger (Ross et al. 2011, arXiv:1011.0686, algorithm 3.1), in which an
iteration is a rollout: the states of all rollouts are kept with the teacher's answers, D, and
`updates` steps down L on batches of D follow each rollout. In the student's rollouts every action
is the teacher's with probability beta. DAgger asks for beta_i whose mean over the iterations goes
to 0; here beta falls linearly from 1 to 0 over the share `mixing` of the run. The policy that
DAgger returns is trained on all of D: before the last rollout the student starts anew, and
`last_updates` steps follow. One that goes on from what it has learned of a part of D imitates worse
beyond it (Ash and Adams 2020, arXiv:1910.08475).

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
from polyreach.methods.teachers import Match, read_teachers
from polyreach.methods.trained_policy import AdaptedPolicy, Normal, PolicyReader
from polyreach.networks.gaussian import normal_divergence
from polyreach.networks.multi_head import SquashableHeads
from polyreach.networks.per_task_weights import Theta
from polyreach.storage.answers import Answers
from polyreach.storage.rollout import by_task

PAPER = "Arora et al. 2018, Multi-task Learning for Continuous Control: distillation"

Direction = Literal["teacher_student", "student_teacher"]


@dataclass(frozen=True)
class DistillationConfig(HeadsConfig):
    """Settings of distillation."""

    teachers: tuple[str, ...] = ()
    """Run folders, on robots also .onnx files without a search, and `scripted` for the scripted
    policies of Meta-World's tasks: one teacher for all tasks, or one for each task in order.
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
    memory: int = 0
    """States of each task that are kept with the teacher's answers. 0: an update is on its own
    rollout only (the paper).
    """
    batch_size: int = 128
    """States of each task in an update, if there is a memory."""
    updates: int = 1
    """Updates after each rollout, if there is a memory."""
    last_updates: int = 0
    """Updates of a student that starts anew before the last rollout, if there is a memory; the
    learning rate falls in these only. 0: the student of the rollouts stays.
    """
    mixing: float = 0.0
    """Share of the run's steps in which beta falls from 1 to 0."""
    hidden_gain: float = 1.0
    """Norm of the weights of a hidden unit at the start (A2C's: 1). With less, the student is
    smoother between the states that it has learned from.
    """

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_choice(self, direction=DIVERGENCE, match=("distribution", "action"))
        check_range("std", self.std, 1e-6)
        check_range("student_share", self.student_share, 0.0, 1.0)
        check_range("mixing", self.mixing, 0.0, 1.0)
        check_range("hidden_gain", self.hidden_gain, 1e-12)
        check_range("memory", self.memory, 0)
        check_range("batch_size", self.batch_size, 1)
        check_range("updates", self.updates, 1)
        check_range("last_updates", self.last_updates, 0)
        if not self.memory and self.updates > 1:
            raise UserError(
                f"updates is {self.updates}, but without a memory a rollout has 1: give memory"
            )
        if not self.memory and self.last_updates:
            raise UserError(
                f"last_updates is {self.last_updates}, but there is no memory to learn from: give "
                "memory"
            )


class Distillation(HeadsLearner):
    """A student, and the teachers once `prepare` has read them."""

    actor: SquashableHeads

    def __init__(
        self, config: DistillationConfig, env: TaskEnv, total_steps: int, seed: int
    ) -> None:
        super().__init__(config, env, total_steps, seed)
        self.config, self.seed = config, seed
        self.actor = SquashableHeads(
            env.tasks,
            env.obs_size,
            config.hidden,
            env.action_size,
            config.sharing,
            config.initial_std,
            config.hidden_gain,
        )
        self.actor.to(self.device)
        self.parts["actor"] = self.actor
        self.optimize(self.actor.net, lr=config.lr)
        self.memory: Answers | None = None
        if config.memory:
            sizes = config.memory, env.obs_size, env.action_size
            self.memory = self.parts["memory"] = Answers(env.tasks, *sizes, self.device)
        self.fitted = 0  # of last_updates
        self.teachers: list[AdaptedPolicy] = []
        # who acts in the environments now, and the state of the other's environments
        self.student_acts = config.student_share > 0
        self.elsewhere: dict[str, Any] = {}

    def prepare(self, read: PolicyReader) -> None:
        """Read the teachers, which only training needs. Raises UserError if they cannot teach."""
        self.teachers = read_teachers(self.config.teachers, self.config.match, self.env, read)
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

    @property
    def done(self) -> float:
        """Of the last updates, if there are any."""
        return self.fitted / self.config.last_updates if self.config.last_updates else super().done

    def step(self) -> Metrics:
        """A turn of every task: a rollout and an update on it; metrics are means over turns."""
        assert self.teachers, "prepare or resume comes first"
        following = self.env_steps + self.t_max * self.env.num_envs
        if following >= self.total_steps and self.fitted < self.config.last_updates:
            return self.fit()
        means = torch.stack([self.turn(tasks) for tasks in self.turns()]).mean(dim=0).tolist()
        return dict(zip(("reward", "divergence", "grad_norm"), means, strict=True))

    def fit(self) -> Metrics:
        """Some of the last updates; before the first the student starts anew."""
        assert self.memory is not None
        if self.fitted == 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.actor.start_anew()
            self.optimizer.state.clear()
        parts = []
        for _ in range(min(self.config.updates, self.config.last_updates - self.fitted)):
            parts += [self.update_from(self.memory, tasks) for tasks in self.turns()]
            self.fitted += 1
        means = torch.stack(parts).mean(dim=0).tolist()
        return dict(zip(("divergence", "grad_norm"), means, strict=True))

    def turn(self, tasks: list[int]) -> Tensor:
        """A rollout of `tasks` and the update on it; the metrics (3,)."""
        drawn = torch.rand((), generator=self.generator, device=self.device)
        student_acts = bool(drawn < self.config.student_share)
        if student_acts != self.student_acts:
            self.exchange()
            self.student_acts = student_acts
        rollout = self.collect(tasks, self.act_of(student_acts, tasks))
        obs = by_task(rollout.obs)  # (T', S n, O)
        target = self.teacher_distribution(obs, tasks)
        if self.memory is None:
            metrics = self.update_on(obs, target, tasks)
            self.actor.normalizer.update(obs)
        else:
            self.memory.add(obs, *target, tasks)
            self.actor.normalizer.update(obs)
            metrics = torch.stack(
                [self.update_from(self.memory, tasks) for _ in range(self.config.updates)]
            )
            metrics = metrics.mean(dim=0)
        return torch.cat([rollout.reward.mean()[None], metrics])

    def act_of(self, student_acts: bool, tasks: list[int]) -> NoisyAct | None:
        """Who acts in a rollout: the student (None), mixed with the teachers, or the teachers."""
        if not student_acts:
            return self.teacher_act(tasks)
        steps = self.config.mixing * self.total_steps
        beta = 1.0 - self.env_steps / steps if self.env_steps < steps else 0.0
        return self.mixed_act(beta, tasks) if beta > 0.0 else None

    def mixed_act(self, beta: float, tasks: list[int]) -> NoisyAct:
        """Every action of every environment is the teacher's with probability `beta`."""
        student, teacher = self.actor_act(tasks), self.teacher_act(tasks)

        def act(obs: Tensor, noise: Tensor) -> Tensor:
            drawn = torch.rand(obs.shape[:2], generator=self.generator, device=self.device)
            # pi_i = beta_i pi* + (1 - beta_i) pi^_i
            return torch.where((drawn < beta)[..., None], teacher(obs, noise), student(obs, noise))

        return act

    def update_from(self, memory: Answers, tasks: list[int]) -> Tensor:
        """An update on states of the memory; as update_on."""
        obs, *target = memory.sample(self.config.batch_size, self.generator, tasks)
        return self.update_on(obs, (target[0], target[1]), tasks)

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
        blocks = [net.leaves(index) for net in self.nets]
        task_loss = self.losses(obs, target, index, *blocks)
        norm = self.descend_on(self.reduce(task_loss), blocks, tasks)
        return torch.stack([task_loss.detach().mean(), norm])

    def losses(self, obs: Tensor, target: Normal, tasks: Tensor | None, theta: Theta) -> Tensor:
        """L of every task (T',), as a function of the student's weights."""
        layers = self.actor.net.layers(theta)
        student = self.actor.outputs(layers, self.actor.normalize(obs, tasks))
        # L = D_KL(N(mu_T, Sigma_T), N(mu_S, Sigma_S))
        return DIVERGENCE[self.config.direction](target, student).mean(dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; for the teachers, digests."""
        phase = {
            "student_acts": self.student_acts,
            "fitted": self.fitted,
            "elsewhere": copy.deepcopy(self.elsewhere),
            "teachers": {teacher.path: teacher.sha256 for teacher in self.teachers},
        }
        return {**super().state_dict(), **phase}

    def resume(self, state: dict[str, Any], read: PolicyReader) -> None:
        """Restore what state_dict returned. Raises UserError if a teacher has changed since."""
        self.teachers = read_teachers(self.config.teachers, self.config.match, self.env, read)
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
        self.fitted = state.get("fitted", 0)  # older checkpoints have none


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
