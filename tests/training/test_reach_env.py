"""The batched reach environment: Gymnasium's vector interface, both modes, rewards, masks,
truncation, state.
"""

from dataclasses import replace
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.reward import BONUS, DONE_REWARD, REWARDS, reward_size
from polyreach.errors import UserError
from polyreach_description import Robot, load_robot
from polyreach_nodes.control.limits import JointLimits

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
SMALL = ReachConfig(horizon_s=0.4, action_repeat=1, configurations=200)

REALISTIC = {
    "acceleration_limits": True,
    "max_delay_s": 0.05,
    "max_lag_s": 0.05,
    "observe_velocity": True,
    "moving_goals": 0.5,
}


def make(
    robot: str | Path = "planar8",
    count: int = 6,
    threads: int = 1,
    seed: int = 0,
    **changes: object,
) -> ReachEnv:
    return ReachEnv(load_robot(robot), count, replace(SMALL, **changes), threads=threads, seed=seed)  # type: ignore[arg-type]


def controller_limits(robot: Robot) -> JointLimits:
    limits = robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits
    return JointLimits(*limits, 1.0 / robot.control_rate)


def test_it_is_a_gymnasium_vector_env() -> None:
    env = make()
    assert isinstance(env, gymnasium.vector.VectorEnv)
    obs, _ = env.reset(seed=1)
    assert env.single_observation_space.contains(obs[0].numpy())
    obs, reward, terminations, truncations, infos = env.step(torch.zeros(6, 8))
    assert obs.shape == (6, 8 + 12) and reward.shape == terminations.shape == truncations.shape == (
        6,
    )
    assert infos["task_reward"].shape == infos["error"].shape == infos["success"].shape == (6, 3)


def test_kinematic_step_integrates_the_velocity_and_stops_at_the_limits() -> None:
    env = make()
    env.reset(seed=1)
    before = env.joint_pos.clone()
    action = torch.linspace(-1.5, 1.5, 8).expand(6, 8)  # beyond [-1, 1]: clipped
    env.step(action)
    limits = torch.tensor(env.robot.joint_pos_limits, dtype=torch.float32)
    speed = torch.tensor(env.robot.action_speeds, dtype=torch.float32)
    expected = before + action.clamp(-1, 1) * speed / 50.0
    assert torch.allclose(env.joint_pos, expected.clamp(limits[:, 0], limits[:, 1]), atol=1e-6)
    for _ in range(10):
        env.step(torch.ones(6, 8))
    assert (env.joint_pos <= limits[:, 1]).all()


@pytest.mark.parametrize(
    "robot", ["planar8", "humanoid27", GANTRY], ids=["planar8", "humanoid27", "gantry"]
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limited", [False, True])
def test_dynamic_step_equals_a_loop_of_mj_step(
    robot: str | Path, threads: int, limited: bool
) -> None:
    changes = {"mode": "dynamic", "action_repeat": 2, "acceleration_limits": limited}
    env = make(robot, count=3, threads=threads, **changes)
    env.reset(seed=2)
    generator = torch.Generator().manual_seed(0)
    model = env.robot.simulation_model()
    period = 1.0 / env.robot.control_rate
    substeps = max(1, round(period / model.opt.timestep))
    model.opt.timestep = period / substeps
    datas = []
    for joint_pos in env.joint_pos.numpy():
        data = mujoco.MjData(model)
        data.qpos[:] = env.robot.qpos(joint_pos)
        datas.append(data)
    commands = np.zeros((3, env.joints))
    limits = controller_limits(env.robot)
    for _ in range(5):
        action = torch.rand(3, env.joints, generator=generator) * 2 - 1
        env.step(action)
        wanted = (action * env.velocity).double().numpy()
        for _ in range(2):
            for data, row, command in zip(datas, wanted, commands, strict=True):
                joint_pos = data.qpos[env.robot.qpos_adr]
                command[:] = limits.apply(row, command, joint_pos) if limited else row
                data.ctrl[:] = env.robot.simulation_ctrl(command)
                for _ in range(substeps):
                    mujoco.mj_step(model, data)
    expected = np.stack([data.qpos[env.robot.qpos_adr] for data in datas])
    assert np.abs(env.joint_pos.numpy() - expected).max() < 1e-6
    env.close()


def test_acceleration_limits_are_those_of_the_controller() -> None:
    env = make(count=1, mode="dynamic", acceleration_limits=True)
    robot = env.robot
    middle = torch.tensor(robot.joint_pos_limits.mean(axis=1)[None], dtype=torch.float32)
    env.reset_to(middle, env.goals, env.active)
    limits, told = controller_limits(robot), np.zeros(env.joints)
    met = []
    for wish in (1.0, 1.0, -1.0, 0.3, 0.3, 0.0):
        action = torch.full((1, env.joints), wish)
        wanted = (action * env.velocity)[0].double().numpy()
        told = limits.apply(wanted, told, env.joint_pos[0].double().numpy())
        env.step(action)
        command = env.state_dict()["commands"][0, 0].numpy()
        assert command == pytest.approx(told, abs=1e-9)
        met.append(bool(command == pytest.approx(wanted, abs=1e-6)))
    assert met == [False, False, False, True, True, False]  # full speed takes five periods
    env.close()


def test_episodes_are_truncated_by_time_never_terminated_and_restart_in_the_same_step() -> None:
    env = make(count=4)
    env.reset(seed=3)
    assert env.horizon == 20
    goals = env.goals.clone()
    for step in range(1, 21):
        obs, _, terminations, truncations, infos = env.step(torch.full((4, 8), 0.1))
        assert not terminations.any()
        assert truncations.all() == truncations.any() == (step == 20)
    before = env.layout.split(infos["final_obs"])
    after = env.layout.split(obs)
    assert torch.equal(before.goals, goals)
    assert not torch.equal(after.goals, goals) and not torch.equal(
        after.joint_pos, before.joint_pos
    )
    assert (env.elapsed == 0).all()


def test_error_and_success_belong_to_the_state_before_the_restart() -> None:
    env = make(count=4)
    env.reset(seed=3)
    for _ in range(env.horizon):
        *_, infos = env.step(torch.zeros(4, 8))
    final = env.layout.split(infos["final_obs"])
    expected = (env.kinematics(final.joint_pos).effector - final.goals).norm(dim=-1)
    assert torch.allclose(infos["error"], expected, atol=1e-6)


def test_goals_are_reachable_together_and_masks_are_never_empty() -> None:
    env = make(count=500, all_active=0.5)
    env.reset(seed=4)
    active = env.active
    assert (active.sum(dim=1) >= 1).all()
    assert 0.5 < (active.sum(dim=1) == 3).float().mean() < 0.65
    distance = (env.goals[:, None] - env.bank.goals[None]).norm(dim=-1).amax(dim=-1).amin(dim=1)
    assert (distance == 0).all()


def test_success_needs_an_active_task_within_tolerance() -> None:
    env = make(count=3)
    env.reset(seed=5)
    goals = env.kinematics(env.joint_pos).effector
    goals[0, 0, 0] += 0.03
    active = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    env.reset_to(env.joint_pos, goals, active)
    *_, infos = env.step(torch.zeros(3, 8))
    assert infos["success"].tolist() == [
        [False, True, True],
        [False, True, True],
        [True, False, False],
    ]


ERROR = torch.tensor([[0.3, 0.01, 0.2], [0.01, 0.01, 0.005], [0.01, 0.01, 0.5]])
ACTIVE = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


def test_paper_rewards_by_hand() -> None:
    done = DONE_REWARD + BONUS
    expected = [[-0.3, DONE_REWARD, -0.2], [done, done, done], [done, done, 0.0]]
    assert torch.allclose(REWARDS["paper"](ERROR, ACTIVE, 0.02), torch.tensor(expected))
    assert torch.allclose(
        REWARDS["paper_scalar"](ERROR, ACTIVE, 0.02), torch.tensor([[-0.51], [BONUS], [BONUS]])
    )
    sums = torch.tensor(expected).sum(dim=1, keepdim=True)
    assert torch.allclose(REWARDS["paper_sum"](ERROR, ACTIVE, 0.02), sums)


def test_precise_reward_grows_as_any_error_falls_and_ignores_inactive_tasks() -> None:
    reward = REWARDS["precise"]
    base = reward(ERROR, ACTIVE, 0.02)
    assert (base <= 0).all() and base[2, 2] == 0
    assert torch.equal(reward(torch.zeros(1, 3), torch.ones(1, 3), 0.02), torch.zeros(1, 3))
    nearer = ERROR.clone()
    nearer[0, 0] = 0.25  # the largest error of row 0: every task of the row gains
    assert (reward(nearer, ACTIVE, 0.02)[0] > base[0]).all()
    farther = ERROR.clone()
    farther[2, 2] = 5.0
    assert torch.equal(reward(farther, ACTIVE, 0.02), base)


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_have_one_column_per_critic_output(name: str) -> None:
    expected = 1 if name.endswith(("_sum", "_scalar")) else 3
    assert reward_size(name, 3) == expected  # type: ignore[arg-type]
    assert REWARDS[name](ERROR, ACTIVE, 0.02).shape == (3, expected)  # type: ignore[index]


@pytest.mark.parametrize("mode", ["kinematic", "dynamic"])
@pytest.mark.parametrize("settings", [{}, REALISTIC], ids=["plain", "realistic"])
def test_state_is_restored_exactly(mode: str, settings: dict[str, object]) -> None:
    def play(env: ReachEnv, steps: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        seen = [env.step(torch.rand(6, 8, generator=generator) * 2 - 1)[0] for _ in range(steps)]
        return torch.stack(seen)

    first, second = (make(mode=mode, **settings) for _ in range(2))  # type: ignore[arg-type]
    first.reset(seed=7, options={"stagger": True})
    play(first, 13, 0)
    state = first.state_dict()
    expected = play(first, 30, 1)
    second.reset(seed=8)
    second.load_state_dict(state)
    assert torch.equal(play(second, 30, 1), expected)


def test_staggered_episodes_end_at_different_times() -> None:
    env = make(count=50)
    env.reset(seed=9, options={"stagger": True})
    assert len(env.elapsed.unique()) > 5


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="num_envs is 0"):
        make(count=0)
    env = make()
    env.reset()
    with pytest.raises(ValueError, match="not finite"):
        env.step(torch.full((6, 8), float("nan")))


def test_actions_and_seeds_as_gymnasium_gives_them() -> None:
    env = make()
    env.action_space.seed(0)
    env.reset(seed=1)
    *_, infos = env.step(env.action_space.sample())  # type: ignore[arg-type]
    assert not infos["_final_obs"].any()
    with pytest.raises(ValueError, match="seed is .1, 2, 3., but all environments draw from one"):
        env.reset(seed=[1, 2, 3])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("horizon_s", -3.0), ("tolerance", float("nan")), ("action_repeat", 0), ("all_active", 1.5)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} is {value:g}, but must be"):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]


def test_a_step_whose_shape_is_wrong_is_refused() -> None:
    env = make()
    env.reset()
    with pytest.raises(ValueError, match=r"actions have shape \(6, 7\), expected \(6, 8\)"):
        env.step(torch.zeros(6, 7))
