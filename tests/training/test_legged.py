"""Hoppers and the biped: models, reward, falls, batches, state, pictures, errors."""

import os
import subprocess
import sys
from dataclasses import replace
from math import cos, sin
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.envs.env_spec import Defaults
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv
from polyreach.envs.legged.models import biped_spec, hopper_spec, lever_arms
from polyreach.envs.legged.render import render_states
from polyreach.envs.legged.spec import LeggedSpec
from polyreach.envs.registry import find_env_spec
from polyreach.envs.task_env import TaskStep, play_episodes
from polyreach.errors import UserError
from polyreach.runs.checkpoint import read_checkpoint, save_checkpoint

GROUPS = tuple(LEGGED_GROUPS)
PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS
PERIOD = 0.008  # of a step [s]
KNEES = dict.fromkeys(GROUPS, ("knee",)) | {"biped2": ("right_knee", "left_knee")}
X, Z, PITCH = 1, 2, 3  # in a row of the state
DRAW = """
import sys, numpy as np, torch
from polyreach.envs.legged.legged import LeggedConfig, LeggedEnv
from polyreach.envs.legged.render import render_states
env = LeggedEnv("hoppers3", 3, LeggedConfig(reset_noise_scale=0.0))
far = env.states[0].clone()
far[:, 1] = 100.0
lean = env.states[0].clone()
lean[:, 3] = 1.0
np.save(sys.argv[1], render_states(env.models[0], torch.cat((env.states[0], far, lean)), 192, 128))
"""


def make(
    group: str = "hoppers3", each: int = 2, threads: int = 1, seed: int = 0, **changes: float
) -> LeggedEnv:
    config = replace(LeggedConfig(), **changes)  # type: ignore[arg-type]
    return LeggedEnv(group, each * len(LEGGED_GROUPS[group]), config, threads=threads, seed=seed)


def draw_actions(steps: int, env: LeggedEnv, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, env.tasks, env.envs_per_task, env.action_size)
    return torch.rand(shape, generator=generator) * 2.0 - 1.0


def nothing(env: LeggedEnv) -> Tensor:
    return torch.zeros(env.tasks, env.envs_per_task, env.action_size)


def same(one: TaskStep, other: TaskStep) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def put(env: LeggedEnv, states: Tensor) -> None:
    """Bring all environments into states (T, n, S)."""
    env.load_state_dict(env.state_dict() | {"state": states.reshape(env.num_envs, -1)})


def simulated(model: mujoco.MjModel, state: Tensor) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state.double().numpy(), PHYSICS)
    mujoco.mj_forward(model, data)
    return data


def centre_x(model: mujoco.MjModel, state: Tensor) -> float:
    """Of mass, as the simulator has it [m]."""
    return float(simulated(model, state).subtree_com[0, 0])


@pytest.mark.parametrize("group", GROUPS)
def test_a_step_is_four_steps_of_the_simulator_and_the_reward_is_of_the_centre_of_mass(
    group: str,
) -> None:
    env, direction = make(group, velocity_weight=1.5), [1.0, 1.0, 1.0]
    if group == "biped2":
        direction = [1.0, -1.0]
    falls = bent = 0
    for action in draw_actions(100, env):
        before = env.states
        step = env.step(action)
        for t, model in enumerate(env.models):
            for i in range(env.envs_per_task):
                data = simulated(model, before[t, i])
                data.qacc_warmstart[:] = 0.0
                data.ctrl[:] = action[t, i].double().numpy()
                for _ in range(4):
                    mujoco.mj_step(model, data)
                height = [data.qpos[1] + model.body("torso").pos[2]]
                reached = np.concatenate((height, data.qpos[2:], np.clip(data.qvel, -10.0, 10.0)))
                assert np.array_equal(step.final_obs[t, i].numpy(), reached.astype(np.float32))
                mujoco.mj_forward(model, data)
                moved = data.subtree_com[0, 0] - centre_x(model, before[t, i])
                fell = bool(step.terminated[t, i])
                cost = 1e-3 * action[t, i].double().square().sum().item()
                knees = [data.joint(name).qpos[0] for name in KNEES[group]]
                cost += 0.75 * sum(not 0.05 <= knee <= 2.618 - 0.05 for knee in knees)
                bent += sum(knee >= 0.05 for knee in knees)
                expected = 1.5 * direction[t] * moved / PERIOD + (0.0 if fell else 1.0) - cost
                assert step.reward[t, i].item() == pytest.approx(expected, abs=1e-5)
                falls += fell
    assert falls > 0 and bent > 100


@pytest.mark.parametrize("spec", [hopper_spec("box", 1.1), biped_spec()])
def test_the_centre_of_mass_follows_from_the_angles(spec: mujoco.MjSpec) -> None:
    model = spec.compile()
    turns, arms = lever_arms(model)
    generator = np.random.default_rng(0)
    for _ in range(20):
        qpos = generator.uniform(-2.0, 2.0, model.nq)
        data = mujoco.MjData(model)
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        angle = turns @ qpos
        x = qpos[0] + (np.cos(angle) * arms[:, 0] + np.sin(angle) * arms[:, 1]).sum()
        assert x == pytest.approx(data.subtree_com[0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "scale", "height"),
    [("capsule", 1.0, 1.21), ("box", 1.1, 1.331), ("ellipsoid", 1.2, 1.452)],
)
def test_masses_and_heights_of_the_three_hoppers_by_hand(
    shape: str, scale: float, height: float
) -> None:
    model = make().models[list(LEGGED_GROUPS["hoppers3"]).index(shape)]
    masses = {"torso": 3.534, "thigh": 3.927, "leg": 2.714, "foot": 5.089}
    lengths = {"torso": 0.4, "thigh": 0.45, "leg": 0.5, "foot": 0.39}
    radii = {"torso": 0.05, "thigh": 0.05, "leg": 0.04, "foot": 0.06}
    assert model.nbody == 5
    for body, mass in masses.items():
        assert model.body(body).mass[0] == pytest.approx(scale * mass, rel=1e-9)
        half, radius = 0.5 * scale * lengths[body], scale * radii[body]
        size = (radius, half, 0) if shape == "capsule" else (radius, radius, half)
        assert model.geom(body).size == pytest.approx(size, abs=1e-12)
    assert model.body("torso").pos[2] == pytest.approx(height, abs=1e-12)


@pytest.mark.parametrize("mass", [3, 8, 14])
def test_the_pairs_differ_in_the_torso_alone(mass: int) -> None:
    heavy, light = make(f"hoppers-{mass}kg").models
    assert heavy.body("torso").mass[0] == pytest.approx(15.0, abs=1e-12)
    assert light.body("torso").mass[0] == pytest.approx(mass, abs=1e-12)
    # the inertia of a part is that of its volume, so it goes with the mass
    share = light.body("torso").inertia / heavy.body("torso").inertia
    assert share == pytest.approx(np.full(3, mass / 15.0), rel=1e-9)
    assert np.array_equal(heavy.body_mass[2:], light.body_mass[2:])
    for field in ("geom_size", "body_pos", "jnt_range", "dof_damping", "actuator_gear"):
        assert np.array_equal(getattr(heavy, field), getattr(light, field)), field


@pytest.mark.parametrize("group", GROUPS)
def test_robots_stand_on_the_floor_and_share_their_sizes(group: str) -> None:
    env = make(group, each=1, reset_noise_scale=0.0)
    first = env.models[0]
    for t, model in enumerate(env.models):
        assert model.opt.timestep == 0.002
        for size in ("nq", "nv", "nu", "na", "nbody", "njnt", "ngeom", "nsensordata", "narena"):
            assert getattr(model, size) == getattr(first, size), size
        for lift, touches in ((1e-4, False), (-1e-4, True)):
            state = env.states[t, 0]
            state[Z] += lift
            assert bool(simulated(model, state).ncon) is touches
    expected = torch.zeros(env.tasks, 1, 2 * first.nv - 1)
    for t, model in enumerate(env.models):
        expected[t, 0, 0] = model.body("torso").pos[2]
    assert torch.equal(env.reset(0), expected)
    assert (env.obs_size, env.action_size) == ((17, 6) if group == "biped2" else (11, 3))


def test_positive_angles_lean_forward_and_swing_a_leg_backward() -> None:
    env = make(each=1, reset_noise_scale=0.0)
    state = env.states[0, 0]
    state[PITCH], state[PITCH + 1] = 0.3, 0.5
    data = simulated(env.models[0], state)
    thigh, leg = data.body("thigh").xpos, data.body("leg").xpos
    assert data.body("torso").xpos - thigh == pytest.approx((0.2 * sin(0.3), 0.0, 0.2 * cos(0.3)))
    assert leg - thigh == pytest.approx((-0.45 * sin(0.8), 0.0, -0.45 * cos(0.8)))


@pytest.mark.parametrize("group", GROUPS)
def test_a_robot_without_control_falls_in_about_a_second(group: str) -> None:
    env = make(group, each=8)
    fell = torch.zeros(env.tasks, env.envs_per_task)
    for number in range(1, 400):
        terminated = env.step(nothing(env)).terminated
        fell = torch.where((fell == 0.0) & terminated, PERIOD * number, fell)
    assert fell.min().item() > 0.4 and 0.7 < fell.mean().item() < 1.7


@pytest.mark.parametrize("group", GROUPS)
def test_energy_does_not_grow_without_control(group: str) -> None:
    env = make(group, each=1, seed=1)
    for t, model in enumerate(env.models):
        model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
        state = env.states[t, 0]
        state[Z] += 0.3
        state[PITCH] = 0.2
        data = simulated(model, state)
        energy = []
        for _ in range(1500):
            mujoco.mj_step(model, data)
            energy.append(data.energy.sum())
        assert max(energy) == energy[0]
        assert energy[-1] < 0.25 * energy[0]


def test_walking_backward_is_rewarded_as_walking_forward_is_punished() -> None:
    env = make("biped2", each=4, alive_bonus=0.0, ctrl_cost_weight=0.0, knee_cost=0.0)
    start = env.states
    start[1] = start[0]
    put(env, start)
    action = 0.3 * draw_actions(1, env)[0]
    action[1] = action[0]
    for _ in range(10):
        step = env.step(action)
        assert not step.terminated.any()
        assert torch.equal(step.reward[0], -step.reward[1]) and step.reward.abs().min() > 0.0
        assert torch.equal(step.final_obs[0], step.final_obs[1])


@pytest.mark.parametrize(
    ("group", "place", "value", "limit"),
    [
        ("hoppers3", PITCH, 0.41, 0.39),
        ("hoppers3", PITCH, -0.41, -0.39),
        ("biped2", PITCH, 1.01, 0.98),
        ("hoppers3", Z, -0.60, -0.57),  # the box stands 1.331 m high, 0.44 of which is 0.586 m
        ("hoppers3", Z + 6, 150.0, 5.0),
    ],
)
def test_a_fall_terminates_without_a_bonus_and_restarts(
    group: str, place: int, value: float, limit: float
) -> None:
    env = make(group, velocity_weight=0.0, knee_cost=0.0)
    index = list(LEGGED_GROUPS[group]).index("box") if group == "hoppers3" else 0
    states = env.states
    states[:, :, Z] = 0.5  # in the air, so that nothing else happens
    states[index, 0, place] = value
    states[index, 1, place] = limit
    if place == Z:  # with the leg drawn in, so that it touches nothing
        states[index, :, PITCH + 1 : PITCH + 3] = torch.tensor([-1.2, 2.4], dtype=torch.float64)
    put(env, states)
    step = env.step(nothing(env))
    expected = torch.zeros_like(step.terminated)
    expected[index, 0] = True
    assert torch.equal(step.terminated, expected) and not step.truncated.any()
    assert torch.equal(step.reward, (~expected).float())
    assert torch.equal((step.obs != step.final_obs).any(dim=2), expected)
    assert step.obs[index, 0, 1:].abs().max() <= 0.005
    assert not step.success.any()


def test_a_diverging_simulation_terminates_with_finite_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into a file
    env = make(knee_cost=0.0)
    states = env.states
    states[1, 0, 7:] = 9e9
    put(env, states)
    step = env.step(nothing(env))
    assert step.terminated.nonzero().tolist() == [[1, 0]]
    assert step.reward[1, 0] == 0.0
    for part in (step.obs, step.final_obs, step.reward):
        assert torch.isfinite(part).all()
    assert torch.isfinite(env.step(nothing(env)).obs).all()


def test_observations_are_the_state_without_x_and_with_clipped_velocities() -> None:
    env = make("biped2")
    states = env.states
    states[..., X] = 7.0
    states[..., 10:] = torch.linspace(-30.0, 30.0, 9, dtype=torch.float64)
    put(env, states)
    step = env.step(nothing(env))
    assert step.final_obs[..., 8:].abs().max() == 10.0
    assert torch.equal(env.states[..., 3:10].float(), step.obs[..., 1:8])
    assert torch.equal((env.states[..., 2] + 1.21).float(), step.obs[..., 0])


def test_starts_are_noisy_around_standing_and_follow_the_seed() -> None:
    env = make(each=200)
    noise = env.states[..., 1:]
    assert noise.abs().max() <= 0.005
    assert noise.std().item() == pytest.approx(0.01 / 12**0.5, rel=0.03)
    assert len(torch.unique(noise)) == noise.numel()
    first, again, other = env.reset(5), env.reset(5), env.reset(6)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(make(seed=5).reset(7), make(seed=9).reset(7))
    assert torch.equal(make(seed=5).states, make(seed=5).states)


def test_the_horizon_truncates_and_restarts_in_the_same_step() -> None:
    env = make(horizon=5)
    for number, action in enumerate(0.1 * draw_actions(12, env), start=1):
        step = env.step(action)
        ended = number % 5 == 0
        assert bool(step.truncated.all()) == bool(step.truncated.any()) == ended
        assert not step.terminated.any()
        moved = (step.obs != step.final_obs).any(dim=2)
        assert bool(moved.all()) == bool(moved.any()) == ended


@pytest.mark.parametrize("group", ["hoppers3", "biped2"])
def test_a_step_depends_on_state_and_action_alone(group: str) -> None:
    env, alone = make(group, each=4), make(group, each=1)
    for action in draw_actions(60, env):
        states = env.states
        step = env.step(action)
        for i in (3, 1):
            put(alone, states[:, i : i + 1])
            single = alone.step(action[:, i : i + 1])
            assert torch.equal(single.final_obs, step.final_obs[:, i : i + 1])
            assert torch.equal(single.reward, step.reward[:, i : i + 1])


@pytest.mark.parametrize("threads", [2, 3, 20])
@pytest.mark.parametrize("group", ["hoppers3", "biped2"])
def test_threads_do_not_change_the_numbers(group: str, threads: int) -> None:
    env, threaded = make(group, each=24), make(group, each=24, threads=threads)
    for action in draw_actions(60, env):
        assert same(env.step(action), threaded.step(action))
    assert same(env.step(action[:1], [1]), threaded.step(action[:1], [1]))
    assert torch.equal(env.states, threaded.states)
    threaded.close()


def test_listed_tasks_are_stepped_in_order_and_the_others_do_not_change() -> None:
    env, everyone = make(), make()
    actions = draw_actions(10, env)
    for action in actions[:6]:
        env.step(action)
        everyone.step(action)
    before = env.states
    step, whole = env.step(actions[6, [2, 0]], tasks=(2, 0)), everyone.step(actions[6])
    assert torch.equal(step.final_obs, whole.final_obs[[2, 0]])
    assert torch.equal(step.reward, whole.reward[[2, 0]])
    assert torch.equal(env.states[1], before[1])
    assert not torch.equal(env.states[[2, 0]], before[[2, 0]])
    env.step(actions[6, [1]], tasks=[1])
    for action in actions[7:]:
        assert same(env.step(action), everyone.step(action))


def test_tasks_count_their_own_steps() -> None:
    env = make(horizon=3)
    env.step(nothing(env)[:1], tasks=[0])
    env.step(nothing(env)[:1], tasks=[0])
    assert env.step(nothing(env)).truncated.tolist() == [[True, True]] + [[False, False]] * 2


def test_resume_in_the_middle_of_an_episode_is_exact(tmp_path: Path) -> None:
    env = make(horizon=60)
    actions = draw_actions(250, env)
    for action in actions[:50]:
        env.step(action)
    path = save_checkpoint(tmp_path, 50, env.state_dict())
    resumed = make(horizon=60, threads=2, seed=99)
    resumed.step(actions[0])
    resumed.load_state_dict(read_checkpoint(path))
    ended = 0
    for action in actions[50:]:  # over falls and restarts, with new random starts
        step = env.step(action)
        assert same(step, resumed.step(action))
        ended += int((step.terminated | step.truncated).sum())
    assert ended > 20 and torch.equal(env.states, resumed.states)
    resumed.close()


def test_returns_of_standing_still_are_a_bonus_for_every_step() -> None:
    env = make(horizon=1000, velocity_weight=0.0, knee_cost=0.0)
    episodes = play_episodes(env, lambda obs: nothing(env), seed=4)
    steps = torch.zeros(3, 2)
    env.reset(4)
    running = torch.ones(3, 2, dtype=torch.bool)
    while running.any():
        running &= ~env.step(nothing(env)).terminated
        steps += running
    assert torch.equal(episodes.returns, steps)


def test_episodes_end_with_the_last_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    env, counted = make(horizon=1000), []
    step = env.step
    monkeypatch.setattr(env, "step", lambda action: counted.append(1) or step(action))
    play_episodes(env, lambda obs: nothing(env), seed=4)
    assert 50 < len(counted) < 250


@pytest.mark.parametrize("group", GROUPS)
def test_the_command_line_finds_the_environments(group: str) -> None:
    env_spec = find_env_spec(group, task_conditioned=True)
    assert isinstance(env_spec, LeggedSpec) and env_spec.tasks == tuple(LEGGED_GROUPS[group])
    tasks = len(env_spec.tasks)
    assert env_spec.defaults("paper") == Defaults(1_000_000 * tasks, 4 * tasks, 50_000 * tasks, 10)
    env = env_spec.make(LeggedConfig(), 2 * tasks, "cpu", 1, seed=0)
    assert env.task_names == env_spec.tasks and env.envs_per_task == 2
    measured = env_spec.make_evaluation(LeggedConfig(), 10, "cpu", 1)
    assert (measured.envs_per_task, measured.horizon) == (10, 1000)
    assert env_spec.note({"return": 1234.5}) == "return 1,234"


def test_rendered_images_track_the_robot(tmp_path: Path) -> None:
    path = tmp_path / "pictures.npy"
    errors = []
    for backend in ("osmesa", "egl"):
        done = subprocess.run(
            [sys.executable, "-c", DRAW, str(path)],
            env=os.environ | {"MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        errors.append(done.stderr.strip().rpartition("\n")[2])
        if path.exists():
            break
    else:
        pytest.skip(f"no OpenGL without a display: {errors}")
    here, far, lean = np.load(path).astype(float)
    assert here.shape == (128, 192, 3)
    torso, thigh = (here[..., 0] - here[..., 2] > 60.0), (here[..., 2] - here[..., 0] > 60.0)
    assert torso.sum() > 20 and thigh.sum() > 20
    # in the middle, the torso over the leg
    for part in (torso, thigh):
        assert abs(part.nonzero()[1].mean() - 95.5) < 8.0
    assert torso.nonzero()[0].mean() < thigh.nonzero()[0].mean() - 10.0
    assert np.abs(far - here)[:80].mean() < 2.0  # above the floor all is where it was
    leaning = lean[..., 0] - lean[..., 2] > 60.0
    top = leaning.nonzero()[0] < leaning.nonzero()[0].mean()
    assert leaning.nonzero()[1][top].mean() > torso.nonzero()[1].mean() + 3.0  # x is to the right


def test_without_opengl_the_error_names_the_variable_to_set() -> None:
    blind = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    done = subprocess.run(
        [sys.executable, "-c", DRAW, "never.npy"],
        env=blind | {"MUJOCO_GL": "glfw", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "UserError: no OpenGL to draw with (" in done.stderr
    assert "set MUJOCO_GL=osmesa or MUJOCO_GL=egl before Python starts" in done.stderr


def test_bad_names_and_numbers_say_what_is_legal() -> None:
    names = "hoppers3, biped2, hoppers-3kg, hoppers-8kg, hoppers-14kg"
    with pytest.raises(UserError, match=rf"'hoppers4' \(there are: {names}\)"):
        LeggedEnv("hoppers4", 4, LeggedConfig())
    with pytest.raises(UserError, match=r"'cone' \(there are: capsule, box, ellipsoid\)"):
        hopper_spec("cone")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="num_envs is 4, but must be a multiple of the 3 tasks"):
        LeggedEnv("hoppers3", 4, LeggedConfig())
    with pytest.raises(UserError, match="threads is 0, but must be at least 1"):
        make(threads=0)
    bad: dict[str, Any] = {"horizon": 0, "frame_skip": 0, "min_height": 1.5, "alive_bonus": -1.0}
    for name, value in bad.items():
        with pytest.raises(UserError, match=f"{name} is {value:g}, but must be "):
            LeggedConfig(**{name: value})
    with pytest.raises(ValueError, match=r"shape \(2, 5\), expected \(any, 13\)"):
        render_states(hopper_spec().compile(), torch.zeros(2, 5))
    with pytest.raises(UserError, match="width is 0, but must be from 1 to 2000"):
        render_states(hopper_spec().compile(), torch.zeros(2, 13), width=0)


def test_bad_actions_are_refused_before_anything_moves() -> None:
    env = make()
    before = env.states
    with pytest.raises(ValueError, match=r"shape \(3, 2, 3\), expected \(1, 2, 3\)"):
        env.step(nothing(env), tasks=[0])
    action = nothing(env)
    action[1, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="an action is not finite"):
        env.step(action)
    assert torch.equal(env.states, before)
