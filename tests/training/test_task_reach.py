"""Reach as separate tasks: masks, actions, observations, partial steps, state."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.task_reach import SCALAR_REWARDS, TaskReachConfig, TaskReachEnv
from polyreach.envs.task_env import TaskStep, play_episodes
from polyreach.errors import UserError
from polyreach.networks.actor_critic import blend_into_least_squares
from polyreach.robot.features import Observation, served_joints, task_names, task_of
from polyreach_description import Robot, load_robot
from polyreach_description.robot import ROBOTS_DIR

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
SMALL = TaskReachConfig(horizon_s=0.4, action_repeat=1, configurations=200)
REALISTIC = {
    "acceleration_limits": True,
    "max_delay_s": 0.05,
    "max_lag_s": 0.05,
    "observe_velocity": True,
    "moving_goals": 0.5,
}
PLANAR8 = ("left", "middle", "right", "together")


def make(robot: str | Path | Robot = "planar8", count: int = 3, **changes: object) -> TaskReachEnv:
    """`count` environments of each task."""
    loaded = robot if isinstance(robot, Robot) else load_robot(robot)
    tasks = len(task_names(loaded.effector_names))
    return TaskReachEnv(loaded, tasks * count, replace(SMALL, **changes))  # type: ignore[arg-type]


def random_action(env: TaskReachEnv, seed: int, tasks: int | None = None) -> torch.Tensor:
    shape = (tasks or env.tasks, env.envs_per_task, env.action_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def masks(env: TaskReachEnv) -> torch.Tensor:
    return env.robots.active.unflatten(0, (env.tasks, env.envs_per_task))


@pytest.fixture
def one_armed(tmp_path: Path) -> Robot:
    """planar8 with one effector and the joints that serve it."""
    source = ROBOTS_DIR / "planar8"
    (tmp_path / "robot.xml").write_text((source / "robot.xml").read_text())
    content = yaml.safe_load((source / "robot.yaml").read_text())
    content["effectors"] = {"left": content["effectors"]["left"]}
    content["joints"] = {
        name: limits
        for name, limits in content["joints"].items()
        if name in ("shared_1", "shared_2", "left_1")
    }
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_robot(path)


def test_tasks_are_each_effector_alone_and_several_together() -> None:
    env = make(count=400, all_active=0.4)
    assert env.task_names == PLANAR8 and env.tasks == 4 and env.num_envs == 1600
    obs = env.reset(0)
    assert obs.shape == (4, 400, env.obs_size) and env.action_size == 8
    for seed in range(2):
        active = masks(env)
        for task in range(3):
            assert torch.equal(active[task], torch.eye(3)[task].expand(400, 3))
        together = active[3].sum(dim=1)
        assert set(together.tolist()) == {2.0, 3.0}
        # all of 0.4, and of the rest a quarter: 0.55, and six standard errors
        assert abs(float((together == 3).float().mean()) - 0.55) < 6 * (0.25 / 400) ** 0.5
        subsets, counts = active[3][together == 2].unique(dim=0, return_counts=True)
        assert len(subsets) == 3 and counts.min() > 30
        env.reset(seed + 1)


def test_a_single_effector_is_a_single_task(one_armed: Robot) -> None:
    env = make(one_armed, count=5)
    assert env.task_names == ("left",) and env.num_envs == 5
    env.reset(0)
    step = env.step(random_action(env, 0))
    assert step.obs.shape == (1, 5, env.obs_size) and (masks(env) == 1).all()
    assert torch.equal(task_of(torch.tensor([[1.0], [0.0]])), torch.ones(2, 1))


@pytest.mark.parametrize("effectors", [2, 3, 4])
def test_every_mask_has_its_task(effectors: int) -> None:
    for mask in itertools.product((0.0, 1.0), repeat=effectors):
        expected = mask.index(1.0) if sum(mask) == 1 else effectors
        actual = task_of(torch.tensor([mask]))
        assert actual.shape == (1, effectors + 1)
        assert actual.sum() == 1 and int(actual.argmax()) == expected


def test_served_joints_are_those_between_base_and_an_active_effector() -> None:
    sets = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    active = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    expected = [[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert served_joints(active, sets).tolist() == expected


def test_blending_with_least_squares_by_hand() -> None:
    # two joints: place, one feature between, least squares, far
    near = torch.tensor([0.1, 0.9, 7.0, 0.3, -0.6, 0.0])
    half = torch.tensor([0.1, 0.9, 7.0, 0.3, -0.6, 0.5])
    away = torch.tensor([0.1, 0.9, 7.0, 0.3, -0.6, 1.0])
    own = torch.tensor([[0.2, -0.9]] * 3, requires_grad=True)
    # towards 0.2 from 0.1: 2 x 0.1; towards -0.9 from 0.9: full speed
    actual = blend_into_least_squares(torch.stack([near, half, away]), own)
    assert torch.allclose(actual, torch.tensor([[0.3, -0.6], [0.25, -0.8], [0.2, -1.0]]))
    actual.sum().backward()
    assert own.grad is not None  # straight through, where the speed was clipped too
    assert torch.allclose(own.grad, torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))


@pytest.mark.parametrize("mode", ["kinematic", "dynamic"])
def test_velocity_actions_leave_unserved_joints_at_rest(mode: str) -> None:
    env = make(action="velocity", mode=mode)
    env.reset(0)
    plain = ReachEnv(env.robots.robot, env.num_envs, env.robots.config)
    plain.reset_to(env.robots.joint_pos, env.robots.goals, env.robots.active)
    action = 1.5 * random_action(env, 0)  # some beyond the limits: clipped
    served = env.robots.active @ env.action_sets > 0
    assert not served.all()
    step = env.step(action)
    *_, infos = plain.step(torch.where(served, action.flatten(0, 1), 0.0))
    assert torch.equal(env.robots.joint_pos, plain.joint_pos)
    assert torch.equal(step.reward.flatten(), infos["task_reward"][:, 0])
    env.close()
    plain.close()


def test_observations_are_the_features_of_the_state() -> None:
    env = make(GANTRY)
    obs = env.reset(0)
    for seed in range(2 * env.horizon):
        expected, _ = env.features(env.robots.observation)
        assert torch.allclose(obs.flatten(0, 1), expected, atol=1e-5)
        obs = env.step(random_action(env, seed)).obs


def test_naming_the_goals_configuration_reaches_the_goals() -> None:
    """With the configuration from which the goals were drawn as action, every task succeeds."""
    env = make(count=20, horizon_s=6.0, action_repeat=2)
    env.reset(3)
    robots, features = env.robots, env.features

    def configuration(obs: torch.Tensor) -> torch.Tensor:
        distance = (robots.goals[:, None] - robots.bank.goals).norm(dim=-1).amax(dim=-1)
        wanted = robots.configurations[distance.argmin(dim=1)]
        place = wanted @ features.per_half_range + features.middle  # type: ignore[union-attr]
        return place.unflatten(0, obs.shape[:2])

    episodes = play_episodes(env, configuration, 3)
    assert episodes.success.float().mean(dim=1).min() >= 0.95
    assert env.error.median() < 0.005
    still = play_episodes(env, lambda obs: torch.zeros(*obs.shape[:2], 8), 3)
    assert still.success.float().mean() < 0.5
    assert (episodes.returns.mean(dim=1) > still.returns.mean(dim=1)).all()


def test_success_and_reward_count_active_effectors_only() -> None:
    env = make(count=1, action="velocity", reward="paper_sum")
    env.reset(0)
    robots = env.robots
    goals = robots.kinematics(robots.joint_pos).effector
    goals[0, 1, 0] += 0.5  # "left": another effector is away
    goals[1, 1, 0] += 0.3  # "middle": its own
    goals[3, 2, 0] += 0.4  # "together": one of three
    active = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    robots.reset_to(robots.joint_pos, goals, active)
    step = env.step(torch.zeros(4, 1, 8))
    assert step.success[:, 0].tolist() == [True, False, True, False]
    assert torch.allclose(step.reward[:, 0], torch.tensor([1.1, -0.3, 1.1, 0.2 - 0.4]), atol=1e-5)
    assert torch.allclose(env.error[:, 0], torch.tensor([0.0, 0.3, 0.0, 0.4]), atol=1e-5)


def test_first_episodes_last_up_to_twice_the_horizon_and_later_ones_the_horizon() -> None:
    env = make(count=30)
    assert env.horizon == 20
    env.reset(0)
    ends: list[list[int]] = [[] for _ in range(env.num_envs)]
    for step in range(1, 61):
        actual = env.step(random_action(env, step))
        assert not actual.terminated.any()
        for row in actual.truncated.flatten().nonzero()[:, 0].tolist():
            ends[row].append(step)
    first = {own[0] for own in ends}
    assert min(first) >= 20 and max(first) < 40 and len(first) == 20
    assert all(after - before == 20 for own in ends for before, after in itertools.pairwise(own))


def test_the_final_observation_is_that_before_the_restart() -> None:
    env = make(count=30)
    env.reset(0)
    robots = env.robots
    for seed in range(25):
        goals, active = robots.goals, robots.active
        step = env.step(random_action(env, seed))
        ended = step.truncated
        assert torch.equal(step.obs[~ended], step.final_obs[~ended])
        if ended.any():
            assert (step.obs[ended] != step.final_obs[ended]).any(dim=-1).all()
            reached = step.final_obs.flatten(0, 1)
            place, low, high = (
                reached[:, :8],
                *torch.tensor(robots.robot.joint_pos_limits).float().T,
            )
            joint_pos = low + (place + 1) / 2 * (high - low)
            expected, _ = env.features.compute(Observation(joint_pos, goals, active))
            assert torch.allclose(expected, reached, atol=2e-3)
    assert robots.elapsed.min() < 20


def same(first: TaskStep, second: TaskStep) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("mode", ["kinematic", "dynamic"])
@pytest.mark.parametrize("settings", [{}, REALISTIC], ids=["plain", "realistic"])
def test_tasks_that_are_not_stepped_keep_their_state_exactly(
    mode: str, settings: dict[str, object]
) -> None:
    env = make(mode=mode, **settings)  # type: ignore[arg-type]
    env.reset(0)
    ended, changed = 0, set()
    for seed in range(60):
        before = env.state_dict()
        tasks = [[2], [0, 3], [3, 1]][seed % 3]
        step = env.step(random_action(env, seed, len(tasks)), tasks)
        assert step.obs.shape == (len(tasks), 3, env.obs_size)
        assert step.reward.shape == step.truncated.shape == step.success.shape == (len(tasks), 3)
        after = env.state_dict()
        kept = torch.ones(4, dtype=torch.bool)
        kept[tasks] = False
        rows = kept.repeat_interleave(3)
        names = [name for name in before["robots"] if name != "generator"]
        assert ("dynamics" in names) == (mode == "dynamic")
        for name in names:
            assert torch.equal(after["robots"][name][rows], before["robots"][name][rows]), name
        for name in names:
            if (after["robots"][name] != before["robots"][name])[~rows].any():
                changed.add(name)
        assert torch.equal(after["obs"][rows], before["obs"][rows])
        assert torch.equal(step.obs, after["obs"].unflatten(0, (4, 3))[tasks])
        ended += int(step.truncated.sum())
    assert ended >= 3
    assert changed >= set(names) - {"delay"}  # constant without settings for it
    env.close()


def test_a_task_steps_independently_of_the_others() -> None:
    together, alone = make(), make()
    together.reset(0), alone.reset(0)
    for seed in range(15):  # before any episode ends, the order of random numbers plays no part
        action = random_action(together, seed)
        step, own = together.step(action), alone.step(action[[1]], [1])
        for ours, theirs in zip(step, own, strict=True):
            assert torch.allclose(ours[[1]].float(), theirs.float(), atol=1e-6)


@pytest.mark.parametrize("mode", ["kinematic", "dynamic"])
@pytest.mark.parametrize("settings", [{}, REALISTIC], ids=["plain", "realistic"])
def test_state_is_restored_exactly(mode: str, settings: dict[str, object]) -> None:
    def play(env: TaskReachEnv, first: int, last: int) -> list[TaskStep]:
        steps = []
        for seed in range(first, last):
            tasks = [None, [3], [0, 2]][seed % 3]
            count = env.tasks if tasks is None else len(tasks)
            steps.append(env.step(random_action(env, seed, count), tasks))
        return steps

    first, second = (make(mode=mode, **settings) for _ in range(2))  # type: ignore[arg-type]
    first.reset(7)
    play(first, 0, 23)
    state = first.state_dict()
    expected = play(first, 23, 60)
    assert any(step.truncated.any() for step in expected)
    second.reset(8)
    second.load_state_dict(state)
    actual = play(second, 23, 60)
    assert all(same(a, b) for a, b in zip(expected, actual, strict=True))
    assert torch.equal(first.error, second.error)
    first.close(), second.close()


def test_all_random_numbers_depend_on_the_seed() -> None:
    first, second = make(), make()
    a, b = first.reset(5), second.reset(5)
    assert torch.equal(a, b) and not torch.equal(a, second.reset(6))
    second.reset(5)
    for seed in range(45):
        action = random_action(first, seed)
        assert same(first.step(action), second.step(action))


def test_rewards_of_one_number_are_legal_and_others_refused() -> None:
    assert set(SCALAR_REWARDS) == {"paper_scalar", "paper_sum", "precise_sum"}
    for name in SCALAR_REWARDS:
        assert replace(SMALL, reward=name).reward == name
    with pytest.raises(UserError, match="reward is 'precise', but must be one of paper_scalar, pa"):
        replace(SMALL, reward="precise")
    with pytest.raises(UserError, match="action is 'torque', but must be one of velocity, conf"):
        replace(SMALL, action="torque")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'configuration' needs features 'kinematic', not 'paper'"):
        replace(SMALL, features="paper")
    with pytest.raises(UserError, match="horizon_s is -1, but must be"):
        replace(SMALL, horizon_s=-1.0)
    env = make(features="paper", action="velocity")
    assert env.obs_size == env.features.size == 4 * 8 + 7 * 3


def test_bad_input_is_refused() -> None:
    robot = load_robot("planar8")
    with pytest.raises(
        UserError, match=r"num_envs is 10, but must be a multiple of the 4 tasks .*together"
    ):
        TaskReachEnv(robot, 10, SMALL)
    with pytest.raises(UserError, match="num_envs is 0"):
        TaskReachEnv(robot, 0, SMALL)
    with pytest.raises(UserError, match="an effector is called 'together'"):
        task_names(("left", "together"))
    env = make()
    env.reset(0)
    before = env.robots.joint_pos
    with pytest.raises(ValueError, match=r"shape \(4, 3, 7\), expected \(4, 3, 8\)"):
        env.step(torch.zeros(4, 3, 7))
    with pytest.raises(ValueError, match=r"shape \(4, 3, 8\), expected \(2, 3, 8\)"):
        env.step(torch.zeros(4, 3, 8), [0, 1])
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            env.step(torch.full((4, 3, 8), value))
    for tasks in ([4], [-1], [1, 1]):
        with pytest.raises(ValueError, match="must be different numbers from 0 to 3"):
            env.step(torch.zeros(len(tasks), 3, 8), tasks)
    assert torch.equal(env.robots.joint_pos, before)
