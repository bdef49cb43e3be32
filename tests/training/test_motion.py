"""How joints follow commands in training: delay, servo lag, and the controller's limits."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.joint_limits import JointLimits
from polyreach.envs.reach.motion import GRID, LaggingJoints, delay_periods, servo_weights
from polyreach.envs.reach.reach import ReachEnv
from polyreach.errors import UserError
from polyreach_description import load_robot
from polyreach_nodes.control.limits import JointLimits as ControllerLimits

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
PERIOD = 0.02
REALISTIC = ReachConfig(
    acceleration_limits=True,
    max_delay_s=0.06,
    max_lag_s=0.04,
    observe_velocity=True,
    horizon_s=0.4,
    action_repeat=1,
    configurations=200,
)


def make(robot: str | Path = "planar8", count: int = 6, **changes: object) -> ReachEnv:
    return ReachEnv(load_robot(robot), count, replace(REALISTIC, **changes))  # type: ignore[arg-type]


def weights(delay: float, lag: float, count: int = 4) -> torch.Tensor:
    """(2, 1 + count)."""
    one = torch.tensor([1.0], dtype=torch.float64)
    return servo_weights(delay * one, lag * one, PERIOD, count)[..., 0]


def test_without_delay_and_lag_a_joint_has_its_command_at_once() -> None:
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, PERIOD, 0.0]])
    assert torch.allclose(weights(0.0, 0.0, 2), expected, atol=1e-8)


def test_delays_by_hand() -> None:
    # 30 ms: for 10 ms the command of two periods ago, then for 10 ms that of one period ago
    half = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.01, 0.01, 0.0]])
    assert torch.allclose(weights(0.03, 0.0), half, atol=1e-8)
    # 5 ms: a quarter of the period still the command before
    quarter = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.015, 0.005]])
    assert torch.allclose(weights(0.005, 0.0, 2), quarter, atol=1e-8)
    # whole periods: 60 ms are three, which rounding does not make four
    whole = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, PERIOD]])
    assert delay_periods(0.06, PERIOD) == 3 and delay_periods(0.061, PERIOD) == 4
    assert torch.allclose(weights(0.06, 0.0), whole, atol=1e-8)


def test_a_lag_by_hand() -> None:
    # v = u + (v0 - u) exp(-t / tau): after tau, 1 - 1 / e of a step
    kept = float(np.exp(-1.0))
    way = PERIOD * (1.0 - (1.0 - kept))  # integral of 1 - exp(-t / tau) over tau
    expected = torch.tensor([[kept, 1.0 - kept], [PERIOD * (1.0 - kept), way]])
    assert torch.allclose(weights(0.0, PERIOD, 1), expected, atol=1e-7)


@pytest.mark.parametrize("delay", [0.0, 0.007, 0.02, 0.033, 0.06])
@pytest.mark.parametrize("lag", [0.001, 0.015, 0.04])
def test_delay_and_lag_equal_fine_integration(delay: float, lag: float) -> None:
    """Against dv/dt = (u(t - delay) - v) / lag in steps of 10 us, exact while u is constant."""
    rng, dt, periods = np.random.default_rng(0), 1e-5, 8
    commands = rng.uniform(-1, 1, periods)
    steps = round(PERIOD / dt)
    late = round(delay / dt)
    kept = np.exp(-dt / lag)
    velocity = way = 0.0
    history, model_velocity, model_way = np.zeros(4), 0.0, 0.0
    matrix = weights(delay, lag).double().numpy()
    for period in range(periods):
        for step in range(steps):
            at = (period * steps + step - late) // steps
            u = commands[at] if at >= 0 else 0.0
            way += u * dt + (velocity - u) * lag * (1.0 - kept)
            velocity = u + (velocity - u) * kept
        history = np.concatenate([commands[period : period + 1], history[:-1]])
        model_velocity, change = matrix @ np.concatenate([[model_velocity], history])
        model_way += change
        assert model_velocity == pytest.approx(velocity, abs=1e-6)
        assert model_way == pytest.approx(way, abs=1e-7)


def test_limits_equal_those_of_the_controller() -> None:
    """Random commands, speeds and positions, at and beyond the position limits too."""
    robot = load_robot("humanoid27")
    rng, nu = np.random.default_rng(1), len(robot.joint_names)
    low, high = robot.joint_pos_limits.T
    joint_pos = low + rng.uniform(-0.05, 1.05, (2000, nu)) * (high - low)
    wanted, previous = rng.uniform(-1, 1, (2, 2000, nu)) * robot.joint_vel_limits
    previous[rng.random((2000, nu)) < 0.3] = 0.0
    controller = ControllerLimits(
        robot.joint_pos_limits,
        robot.joint_vel_limits,
        robot.joint_acc_limits,
        1.0 / robot.control_rate,
    )
    limits = JointLimits(robot, torch.device("cpu"), torch.float64)
    actual = limits.apply(*map(torch.tensor, (wanted, previous, joint_pos))).numpy()
    expected = np.array(
        [controller.apply(*row) for row in zip(wanted, previous, joint_pos, strict=True)]
    )
    assert np.abs(actual - expected).max() < 1e-9
    change = robot.joint_acc_limits / robot.control_rate
    braked = np.abs(expected - np.clip(wanted, previous - change, previous + change)) > 1e-6
    assert 0.02 < braked.mean() < 0.5


@pytest.mark.parametrize("robot", ["planar8", GANTRY], ids=["planar8", "gantry"])
@pytest.mark.parametrize("repeat", [1, 3])
def test_an_episode_equals_the_controller_before_a_delayed_servo(
    robot: str | Path, repeat: int
) -> None:
    env = make(robot, action_repeat=repeat, horizon_s=4.0)
    env.reset(seed=3)
    assert isinstance(env.motion, LaggingJoints)
    controller = ControllerLimits(
        env.robot.joint_pos_limits,
        env.robot.joint_vel_limits,
        env.robot.joint_acc_limits,
        1.0 / env.robot.control_rate,
    )
    count = env.motion.commands.shape[0]
    matrix = servo_weights(
        env.motion.delay, env.motion.lag, 1.0 / env.robot.control_rate, count
    ).double()
    joint_pos = env.joint_pos.double().numpy()
    velocity, history = np.zeros_like(joint_pos), np.zeros((count, *joint_pos.shape))
    generator = torch.Generator().manual_seed(0)
    low, high = env.robot.joint_pos_limits.T
    for _ in range(6):
        action = torch.rand(joint_pos.shape, generator=generator) * 2 - 1
        obs, *_ = env.step(action)
        wanted = action.double().numpy() * env.robot.joint_vel_limits
        for _ in range(repeat):
            rows = zip(wanted, history[0], joint_pos, strict=True)
            command = np.array([controller.apply(*row) for row in rows])
            history = np.concatenate([command[None], history[:-1]])
            signals = np.concatenate([velocity[None], history])
            velocity, way = np.einsum("kin,inj->knj", matrix.numpy(), signals)
            joint_pos = np.clip(joint_pos + way, low, high)
        assert np.abs(env.joint_pos.numpy() - joint_pos).max() < 1e-5
        observed = env.layout.split(obs).previous_joint_vel
        assert observed is not None and np.abs(observed.numpy() - history[0]).max() < 1e-4


def test_every_episode_has_its_own_delay_and_lag() -> None:
    env = make(count=400)
    env.reset(seed=1)
    assert isinstance(env.motion, LaggingJoints)
    delay, lag = env.motion.delay, env.motion.lag
    for values, largest in ((delay, 0.06), (lag, 0.04)):
        assert values.min() >= 0.0 and values.max() <= largest + 1e-9
        assert len(values.unique()) > GRID / 2
        assert abs(float(values.mean()) - largest / 2) < largest / 10
    for _ in range(env.horizon):
        env.step(torch.zeros(400, 8))
    assert (env.motion.delay != delay).double().mean() > 0.9
    before = env.motion.delay
    env.reset_to(env.joint_pos, env.goals, env.active)
    assert torch.equal(env.motion.delay, before)


def test_a_restart_is_at_rest() -> None:
    env = make()
    env.reset(seed=1)
    for _ in range(env.horizon - 1):
        obs, *_ = env.step(torch.ones(6, 8))
    assert (env.layout.split(obs).previous_joint_vel != 0).any()  # type: ignore[union-attr]
    obs, *_, infos = env.step(torch.ones(6, 8))
    assert (env.layout.split(infos["final_obs"]).previous_joint_vel != 0).any()  # type: ignore[union-attr]
    assert not env.layout.split(obs).previous_joint_vel.any()  # type: ignore[union-attr]
    start = env.joint_pos
    env.step(torch.zeros(6, 8))
    assert torch.equal(env.joint_pos, start)


@pytest.mark.parametrize("max_delay_s", [0.0, 0.05])
def test_simulated_servos_get_commands_late(max_delay_s: float) -> None:
    env = make(count=3, mode="dynamic", max_delay_s=max_delay_s, acceleration_limits=False)
    env.reset(seed=2)
    model = env.robot.simulation_model()
    substeps = round(PERIOD / model.opt.timestep)
    model.opt.timestep = PERIOD / substeps
    state = env.motion.state_dict()
    late = state["delay"].tolist()  # simulation steps
    assert (max(late) > 0) == (max_delay_s > 0) and max(late) * model.opt.timestep <= max_delay_s
    commands = [np.zeros((3, 8))]
    datas = []
    for joint_pos in env.joint_pos.double().numpy():
        data = mujoco.MjData(model)
        data.qpos[:] = env.robot.qpos(joint_pos)
        datas.append(data)
    generator = torch.Generator().manual_seed(0)
    for period in range(8):
        action = torch.rand(3, 8, generator=generator) * 2 - 1
        env.step(action)
        commands.append((action * env.velocity).double().numpy())
        for row, data in enumerate(datas):
            for step in range(substeps):
                at = (period * substeps + step - late[row]) // substeps
                data.ctrl[:] = env.robot.simulation_ctrl(commands[max(at + 1, 0)][row])
                mujoco.mj_step(model, data)
    expected = np.stack([data.qpos[env.robot.qpos_adr] for data in datas])
    assert np.abs(env.joint_pos.numpy() - expected).max() < 1e-6
    env.close()


def test_actions_are_in_units_of_the_velocity_limits_where_the_speed_is_observed() -> None:
    robot = load_robot(GANTRY)
    assert (robot.action_speeds < robot.joint_vel_limits).any()
    for observed, speeds in ((True, robot.joint_vel_limits), (False, robot.action_speeds)):
        env = make(GANTRY, observe_velocity=observed)
        assert env.velocity.numpy() == pytest.approx(speeds)
        assert ("previous_joint_vel" in env.layout.inputs) is observed
        assert env.reset(seed=0)[0].shape[1] == env.layout.size


@pytest.mark.parametrize("name", ["max_delay_s", "max_lag_s", "nearness_cost", "moving_goals"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is -1, but must be"):
        replace(REALISTIC, **{name: -1.0})  # type: ignore[arg-type]
