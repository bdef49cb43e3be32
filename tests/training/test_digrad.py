"""DiGrad and DDPG against arithmetic done by hand, and a short run of each that must beat its
start.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.envs.reach.reward import REWARDS
from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.methods.ddpg import DDPG, DDPGConfig
from polyreach.methods.deterministic import DeterministicConfig, DeterministicLearner, Step
from polyreach.methods.digrad import DiGrad, DiGradConfig, differential_gradient
from polyreach.networks.actor_critic import Critic, CriticKind
from polyreach_description import load_robot

# three tasks, four joints: joint 0 shared by all, joint 1 by tasks 0 and 1, joints 2 and 3 by one
# task each
SETS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
DQ = torch.tensor(
    [[[1.0, 2.0, 3.0, 4.0]], [[10.0, 20.0, 30.0, 40.0]], [[100.0, 200.0, 300.0, 400.0]]]
)


def gradient(active: list[float], heuristic: bool) -> list[float]:
    return differential_gradient(DQ, SETS, torch.tensor([active]), heuristic)[0].tolist()


def test_gradients_of_shared_joints_are_added() -> None:
    # joint 0: 1 + 10 + 100; joint 1: 2 + 20, for task 2 does not move it; joint 2: task 1; joint 3:
    # task 2
    assert gradient([1.0, 1.0, 1.0], heuristic=False) == [111.0, 22.0, 30.0, 400.0]


def test_the_heuristic_divides_by_the_number_of_tasks_that_share_the_joint() -> None:
    assert gradient([1.0, 1.0, 1.0], heuristic=True) == [37.0, 11.0, 30.0, 400.0]


def test_tasks_without_a_goal_have_no_influence() -> None:
    # task 1 is off: joint 0 has tasks 0 and 2, joint 1 task 0 only, joint 2 nobody
    assert gradient([1.0, 0.0, 1.0], heuristic=False) == [101.0, 2.0, 0.0, 400.0]
    assert gradient([1.0, 0.0, 1.0], heuristic=True) == [50.5, 2.0, 0.0, 400.0]
    assert gradient([0.0, 0.0, 0.0], heuristic=True) == [0.0, 0.0, 0.0, 0.0]


def small(**changes: object) -> dict:
    return {"hidden": (16,), "batch_size": 32, "replay_size": 2000, "learning_starts": 64} | changes


def learner_of(
    kind: type[DeterministicLearner], config: DeterministicConfig, env_config: ReachConfig
) -> DeterministicLearner:
    settings = replace(env_config, configurations=300)
    env = EffectorReachEnv(load_robot("planar8"), 16, settings, seed=1)
    return kind(config, env, 10_000, 0)  # type: ignore[call-arg, arg-type]


def batch_of(learner: DeterministicLearner, count: int) -> Step:
    """`count` transitions of the replay, as an update sees them."""
    return learner.look_up(learner.replay.sample(count, learner.generator))


class RecordedStep:
    """Records the gradients given to an optimiser instead of taking a step."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.grads: list[Tensor] = []

    def __call__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> float:
        self.grads = [
            parameter.grad.clone() for parameter in parameters if parameter.grad is not None
        ]
        return 0.0


@pytest.mark.parametrize("critic", ["single", "multi", "masked"])
@pytest.mark.parametrize("heuristic", [True, False])
def test_the_actor_ascends_the_differential_gradient(critic: str, heuristic: bool) -> None:
    config = DiGradConfig(**small(critic=critic, heuristic=heuristic))
    learner = learner_of(DiGrad, config, ReachConfig(reward="paper", all_active=0.5))
    for _ in range(10):
        learner.step()
    step = batch_of(learner, 8)
    parameters = list(learner.actor.mu.parameters())
    recorded = RecordedStep(parameters)
    learner.apply = recorded  # type: ignore[method-assign]
    learner.update_actor(step)
    # the same, joint by joint and sample by sample, from the definition
    expected = [torch.zeros_like(p) for p in parameters]
    for row in range(8):
        features, active = step.features[row : row + 1], step.active[row : row + 1]
        for joint in range(8):
            tasks = [
                i
                for i in range(3)
                if learner.env.robots.robot.action_sets[i, joint] and active[0, i]
            ]
            g = 0.0
            for task in tasks:
                action = learner.actor.act(features, active).detach().requires_grad_()
                learner.critic(features, action)[0, 0, task].backward()
                assert action.grad is not None
                g += float(action.grad[0, joint]) / (len(tasks) if heuristic else 1)
            if tasks:
                mu_j = learner.actor.act(features, active)[0, joint]
                for total, part in zip(
                    expected, torch.autograd.grad(mu_j, parameters), strict=True
                ):
                    total -= g * part / 8
    assert max(float(part.abs().max()) for part in expected) > 1e-5
    for found, wanted in zip(recorded.grads, expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["multi", "masked"])
def test_an_action_value_depends_only_on_its_own_joints(kind: CriticKind) -> None:
    critic = Critic(2, 5, (16,), SETS, kind, activation="relu")
    features, action = torch.randn(7, 5), torch.randn(7, 4)
    base = critic(features, action)
    assert base.shape == (2, 7, 3)
    for joint in range(4):
        moved = action.clone()
        moved[:, joint] += 1.0
        changed = (critic(features, moved) != base).any(dim=1).any(dim=0)
        assert changed.tolist() == [bool(member) for member in SETS[:, joint]]


def test_a_masked_critic_is_the_single_one_on_the_joints_of_each_task() -> None:
    masked = Critic(2, 5, (16,), SETS, "masked", activation="relu")
    single = Critic(2, 5, (16,), SETS, "single", activation="relu")
    single.load_state_dict(masked.state_dict())
    features, action = torch.randn(7, 5), torch.randn(7, 4)
    for task in range(3):
        expected = single(features, action * SETS[task])[..., task]
        torch.testing.assert_close(masked(features, action)[..., task], expected)


def test_targets_of_each_task_bootstrap_from_that_task() -> None:
    config = DiGradConfig(**small(gamma=0.9, twin=True, reward_scale=0.5))
    learner = learner_of(DiGrad, config, ReachConfig(reward="paper"))
    for _ in range(5):
        learner.step()
    step = batch_of(learner, 8)
    action = learner.actor.act(step.next_features, step.active, learner.target_actor)
    q = learner.target_critic(step.next_features, action)
    expected = 0.5 * step.reward + 0.9 * torch.minimum(q[0], q[1])
    assert torch.allclose(learner.target(step), expected)


def test_the_critic_loss_leaves_out_tasks_without_a_goal() -> None:
    learner = learner_of(
        DiGrad, DiGradConfig(**small()), ReachConfig(reward="paper", all_active=0.0)
    )
    for _ in range(8):
        learner.step()
    step = batch_of(learner, 32)
    assert 0 < float(step.weight.mean()) < 1
    q = learner.critic(step.features, step.action)[0]
    expected = (step.weight * (q - learner.target(step)) ** 2).sum(dim=1).mean()
    assert learner.update_critic(step)["critic_loss"] == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


def test_joints_that_serve_no_active_effector_stand_still() -> None:
    learner = learner_of(DiGrad, DiGradConfig(**small()), ReachConfig(all_active=0.0))
    moved = learner.policy(learner.env.reset(seed=0))[0].abs() > 0
    served = (
        learner.env.robots.active @ torch.tensor(learner.env.robots.robot.action_sets).float()
    ) > 0
    assert torch.equal(moved, served) and not served.all()


def test_relabelled_rewards_are_those_of_the_new_goals() -> None:
    config = DiGradConfig(**small(relabel=0.5))
    learner = learner_of(DiGrad, config, ReachConfig(reward="precise"))
    for _ in range(10):
        learner.step()
    batch = learner.replay.sample(32, learner.generator)
    obs, next_obs = learner.relabel_goals(batch.obs[0], batch.next_obs[0])
    changed = (obs[:, 8:17] != batch.obs[0, :, 8:17]).any(dim=1)
    assert 0.2 < changed.float().mean() < 0.8
    assert torch.equal(obs[:, 8:], next_obs[:, 8:]) and torch.equal(obs[:, :8], batch.obs[0, :, :8])
    learner.relabel_goals = lambda *_: (obs, next_obs)  # type: ignore[method-assign]
    step = learner.look_up(batch)
    parts = learner.env.robots.layout.split(next_obs)
    error = (learner.env.robots.kinematics(parts.joint_pos).effector - parts.goals).norm(dim=-1)
    expected = REWARDS["precise"](error, parts.active, 0.02)
    assert torch.allclose(step.reward, expected, atol=1e-5)
    assert not torch.allclose(step.reward[changed], batch.reward[0, changed], atol=1e-2)


def test_transitions_across_a_restart_keep_the_state_before_it() -> None:
    learner = learner_of(
        DiGrad, DiGradConfig(**small()), ReachConfig(horizon_s=0.2, action_repeat=1)
    )
    for _ in range(40):
        learner.step()
    everything = torch.arange(learner.replay.size[0])[None]
    batch = learner.replay.take(everything)
    obs, next_obs = batch.obs[0], batch.next_obs[0]
    assert torch.equal(obs[:, 8:], next_obs[:, 8:])
    step = (obs[:, :8] - next_obs[:, :8]).abs().amax()
    assert step <= 2.5 / 50 + 1e-5


def test_ddpg_needs_one_reward() -> None:
    with pytest.raises(
        UserError, match="DDPG needs one reward, but 'paper' gives 3 .legal: paper_scalar"
    ):
        learner_of(DDPG, DDPGConfig(**small()), ReachConfig(reward="paper"))


def test_digrad_needs_a_reward_of_each_effector() -> None:
    with pytest.raises(
        UserError, match="DiGrad needs a reward of each effector, but 'precise_sum'"
    ):
        learner_of(DiGrad, DiGradConfig(**small()), ReachConfig(reward="precise_sum"))


def test_a_residual_actor_needs_kinematic_features() -> None:
    with pytest.raises(UserError, match="handover needs features 'kinematic', not 'paper'"):
        learner_of(DiGrad, DiGradConfig(**small(handover=True)), ReachConfig())


def mean_error(learner: DeterministicLearner) -> float:
    settings = replace(learner.env.robots.config, all_active=1.0)
    env = EffectorReachEnv(load_robot("planar8"), 200, settings, seed=50, stagger=False)
    play_episodes(env, learner.policy, seed=51)
    return float(env.error.mean())


LEARNING = {"hidden": (64, 64), "batch_size": 128, "replay_size": 50_000, "learning_starts": 640}
FAST = {
    "optimizer": "adam",
    "actor_lr": 1e-3,
    "critic_lr": 2e-3,
    "tau": 0.02,
    "gamma": 0.9,
    "relabel": 0.5,
}


@pytest.mark.parametrize(
    ("kind", "config", "reward"),
    [
        (DiGrad, DiGradConfig(**LEARNING, **FAST, features="kinematic"), "precise"),
        (
            DiGrad,
            DiGradConfig(**LEARNING, **FAST, features="kinematic", critic="multi", heuristic=False),
            "precise",
        ),
        (DDPG, DDPGConfig(**LEARNING, **FAST, features="kinematic"), "precise_sum"),
    ],
    ids=["digrad", "digrad multi critic, summed", "ddpg"],
)
def test_a_short_run_beats_its_start(
    kind: type[DeterministicLearner], config: DeterministicConfig, reward: str
) -> None:
    learner = learner_of(kind, config, ReachConfig(reward=reward, action_repeat=4, horizon_s=3.0))  # type: ignore[arg-type]
    before = mean_error(learner)
    while learner.updates < 500:
        learner.step()
    assert mean_error(learner) < 0.6 * before
