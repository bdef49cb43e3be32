"""The HalfCheetah tasks: the numbers of Gymnasium's HalfCheetah-v5, the builds, state, errors."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.resources import files
from math import pi
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.envs.cheetahs import (
    CHEETAH_GROUPS,
    CHEETAH_VARIANTS,
    CheetahConfig,
    CheetahEnv,
    cheetah_model,
)
from polyreach.envs.task_env import TaskStep, play_episodes
from polyreach.errors import UserError
from polyreach.runs.checkpoint import read_checkpoint, save_checkpoint

ASSET = Path(str(files("gymnasium") / "envs" / "mujoco" / "assets" / "half_cheetah.xml"))
QPOS, QVEL = slice(1, 10), slice(10, 19)  # in a row of the state
GEOMS: dict[str, tuple[str, ...]] = {
    "Plain": (),
    "SmallTorso": ("torso",),
    "BigTorso": ("torso",),
    "SmallThigh": ("bthigh", "fthigh"),
    "BigThigh": ("bthigh", "fthigh"),
    "SmallLeg": ("bshin", "fshin"),
    "BigLeg": ("bshin", "fshin"),
    "SmallFoot": ("bfoot", "ffoot"),
    "BigFoot": ("bfoot", "ffoot"),
}


def make(
    group: str = "cheetah8", count: int = 16, threads: int = 1, seed: int = 0, **changes: float
) -> CheetahEnv:
    config = replace(CheetahConfig(), **changes)  # type: ignore[arg-type]
    return CheetahEnv(group, count, config, threads=threads, seed=seed)


def draw_actions(steps: int, tasks: int = 8, each: int = 2, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(steps, tasks, each, 6, generator=generator) * 2.0 - 1.0


def states(env: CheetahEnv) -> Tensor:
    """(T, n, size), a copy."""
    state: Tensor = env.state_dict()["state"]
    return state.reshape(env.tasks, env.envs_per_task, -1)


def same(one: TaskStep, other: TaskStep) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def edited_file(variant: str, folder: Path) -> Path:
    """Gymnasium's file with the numbers of `size` multiplied in its text."""
    tree = ET.parse(ASSET)
    factor = 0.75 if variant.startswith("Small") else 1.25
    for name in GEOMS[variant]:
        geom = tree.find(f".//geom[@name='{name}']")
        assert geom is not None
        sizes = [float(number) * factor for number in geom.attrib["size"].split()]
        geom.set("size", " ".join(repr(size) for size in sizes))
    path = folder / f"{variant}.xml"
    tree.write(path)
    return path


@pytest.mark.parametrize("group", ["cheetah", "cheetah8"])
def test_states_observations_and_rewards_are_those_of_half_cheetah_v5(
    group: str, tmp_path: Path
) -> None:
    pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments need imageio")
    env = make(group, count=2 * len(CHEETAH_GROUPS[group]))
    actions = draw_actions(300, env.tasks)
    start = states(env).numpy()
    steps = [(env.step(action), states(env).numpy()) for action in actions]
    for t, variant in enumerate(env.task_names):
        reference = gymnasium.make(
            "HalfCheetah-v5", xml_file=str(edited_file(variant, tmp_path)), disable_env_checker=True
        )
        plain = reference.unwrapped
        reference.reset(seed=0)
        mujoco.mj_resetData(plain.model, plain.data)  # type: ignore[attr-defined]
        plain.set_state(start[t, 1, QPOS], start[t, 1, QVEL])  # type: ignore[attr-defined]
        for action, (step, state) in zip(actions[:, t, 1], steps, strict=True):
            obs, reward, terminated, truncated, _ = reference.step(action.double().numpy())
            assert np.array_equal(state[t, 1, QPOS], plain.data.qpos)  # type: ignore[attr-defined]
            assert np.array_equal(state[t, 1, QVEL], plain.data.qvel)  # type: ignore[attr-defined]
            assert np.array_equal(step.obs[t, 1].numpy(), obs.astype(np.float32))
            assert step.reward[t, 1].item() == np.float32(reward)
            assert not terminated and not truncated and not step.truncated[t, 1]
        reference.close()


def test_defaults_are_those_of_half_cheetah_v5() -> None:
    pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments need imageio")
    reference = gymnasium.make("HalfCheetah-v5")
    own, env = CheetahConfig(), make("cheetah", count=1)
    assert reference.spec is not None and reference.spec.max_episode_steps == own.horizon
    plain = reference.unwrapped
    assert plain.frame_skip == own.frame_skip  # type: ignore[attr-defined]
    assert plain._forward_reward_weight == own.forward_reward_weight  # type: ignore[attr-defined]
    assert plain._ctrl_cost_weight == own.ctrl_cost_weight  # type: ignore[attr-defined]
    assert plain._reset_noise_scale == own.reset_noise_scale  # type: ignore[attr-defined]
    assert reference.observation_space.shape == (env.obs_size,)
    assert reference.action_space.shape == (env.action_size,)
    reference.close()


@pytest.mark.parametrize("variant", CHEETAH_VARIANTS)
def test_only_the_named_sizes_change_and_the_mass_is_14_kg(variant: str, tmp_path: Path) -> None:
    model, plain = cheetah_model(variant), mujoco.MjModel.from_xml_path(str(ASSET))
    assert model.body_mass.sum() == pytest.approx(14.0, abs=1e-12)
    changed = [
        plain.geom(i).name
        for i in range(plain.ngeom)
        if not np.array_equal(model.geom_size[i], plain.geom_size[i])
    ]
    assert sorted(changed) == sorted(GEOMS[variant])
    for field in ("geom_pos", "geom_quat", "body_pos", "jnt_range", "dof_damping", "actuator_gear"):
        assert np.array_equal(getattr(model, field), getattr(plain, field)), field
    edited = mujoco.MjModel.from_xml_path(str(edited_file(variant, tmp_path)))
    for field in ("geom_size", "body_mass", "body_inertia", "body_ipos"):
        assert np.array_equal(getattr(model, field), getattr(edited, field)), field


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        ("Plain", {"torso": (0.046, 0.5), "head": (0.046, 0.15), "bshin": (0.046, 0.15)}),
        ("SmallFoot", {"bfoot": (0.0345, 0.0705), "ffoot": (0.0345, 0.0525)}),
        ("BigLeg", {"bshin": (0.0575, 0.1875), "fshin": (0.0575, 0.1325)}),
        ("BigThigh", {"bthigh": (0.0575, 0.18125), "fthigh": (0.0575, 0.16625)}),
        ("BigTorso", {"torso": (0.0575, 0.5), "head": (0.046, 0.15)}),
    ],
)
def test_radii_and_half_lengths_by_hand(
    variant: str, sizes: dict[str, tuple[float, float]]
) -> None:
    model = cheetah_model(variant)
    for name, size in sizes.items():
        assert model.geom(name).size[:2] == pytest.approx(size, abs=1e-12)


def test_masses_are_shares_of_the_volumes_of_the_capsules() -> None:
    # radius and half length of every capsule of BigTorso, body by body
    bodies = {
        "torso": [(0.0575, 0.5), (0.046, 0.15)],
        "bthigh": [(0.046, 0.145)],
        "bshin": [(0.046, 0.15)],
        "bfoot": [(0.046, 0.094)],
        "fthigh": [(0.046, 0.133)],
        "fshin": [(0.046, 0.106)],
        "ffoot": [(0.046, 0.07)],
    }
    volume = {
        body: sum(2.0 * pi * r**2 * h + 4.0 / 3.0 * pi * r**3 for r, h in capsules)
        for body, capsules in bodies.items()
    }
    model = cheetah_model("BigTorso")
    for body, own in volume.items():
        expected = 14.0 * own / sum(volume.values())
        assert model.body(body).mass[0] == pytest.approx(expected, rel=1e-9)


def test_groups_are_the_tasks_of_the_papers() -> None:
    parts, six = ("Torso", "Thigh", "Leg", "Foot"), CHEETAH_GROUPS["cheetah6"]
    assert sorted(CHEETAH_GROUPS["cheetah8"]) == sorted(
        size + part for size in ("Small", "Big") for part in parts
    )
    assert sorted(six) == sorted(
        ("SmallFoot", "BigFoot", "SmallLeg", "SmallThigh", "SmallTorso", "BigTorso")
    )
    env = make(count=24)
    assert (env.tasks, env.envs_per_task, env.num_envs) == (8, 3, 24)
    assert env.task_names == CHEETAH_GROUPS["cheetah8"] and env.reset(0).shape == (8, 3, 17)


def test_reward_is_weighted_speed_minus_the_cost_of_the_clipped_action() -> None:
    env = make(forward_reward_weight=2.0, ctrl_cost_weight=0.5, frame_skip=4)
    before = states(env)[..., 1]
    action = draw_actions(1)[0] * 3.0
    step = env.step(action)
    speed = (states(env)[..., 1] - before) / 0.04
    expected = 2.0 * speed - 0.5 * action.double().clamp(-1.0, 1.0).pow(2).sum(dim=-1)
    assert torch.allclose(step.reward.double(), expected, rtol=1e-6)
    clipped = make(forward_reward_weight=2.0, ctrl_cost_weight=0.5, frame_skip=4)
    assert same(step, clipped.step(action.clamp(-1.0, 1.0)))


def test_starts_are_noisy_around_the_model_and_follow_the_seed() -> None:
    env = make(count=800)
    state = states(env)
    qpos, qvel = state[..., QPOS], state[..., QVEL]  # the model's own positions are all 0
    assert qpos.abs().max() <= 0.1 and qpos.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert qvel.std().item() == pytest.approx(0.1, rel=0.05) and qvel.abs().max() > 0.2
    assert len(torch.unique(qpos[..., 0])) == 800
    first, again, other = env.reset(5), env.reset(5), env.reset(6)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(make(count=16, seed=5).reset(7), make(count=16, seed=9).reset(7))
    assert torch.equal(states(make(seed=5)), states(make(seed=5)))


def test_the_horizon_truncates_and_restarts_in_the_same_step() -> None:
    env = make(horizon=5)
    actions = draw_actions(12)
    for number, action in enumerate(actions, start=1):
        step = env.step(action)
        ended = number % 5 == 0
        assert bool(step.truncated.all()) == bool(step.truncated.any()) == ended
        assert not step.terminated.any() and not step.success.any()
        moved = (step.obs != step.final_obs).any(dim=-1)
        assert bool(moved.all()) == bool(moved.any()) == ended
        assert torch.equal(step.obs, states(env)[..., 2:19].float())
        if ended:
            assert step.obs[..., :8].abs().max() <= 0.1


def test_a_restart_forgets_the_episode_before() -> None:
    env, other = make(horizon=40), make(horizon=40)
    for action, another in zip(draw_actions(40, seed=1), draw_actions(40, seed=2), strict=True):
        step, alike = env.step(action), other.step(another)
    assert not torch.equal(step.final_obs, alike.final_obs)
    assert torch.equal(states(env), states(other))
    assert same(env.step(action), other.step(action))


def test_listed_tasks_are_stepped_in_order_and_the_others_do_not_change() -> None:
    env, full_env = make(), make()
    actions = draw_actions(30)
    for action in actions[:10]:
        env.step(action)
        full_env.step(action)
    before = states(env)
    step = env.step(actions[10, [5, 2]], tasks=(5, 2))
    whole = full_env.step(actions[10])
    assert step.obs.shape == (2, 2, 17) and step.reward.shape == (2, 2)
    assert torch.equal(step.obs, whole.obs[[5, 2]])
    assert torch.equal(step.reward, whole.reward[[5, 2]])
    others = [0, 1, 3, 4, 6, 7]
    assert torch.equal(states(env)[others], before[others])
    assert not torch.equal(states(env)[[5, 2]], before[[5, 2]])
    env.step(actions[10, others], tasks=others)
    for action in actions[11:]:
        assert same(env.step(action), full_env.step(action))


def test_tasks_count_their_own_steps() -> None:
    env = make(horizon=3)
    action = draw_actions(1)[0]
    env.step(action[:1], tasks=[0])
    env.step(action[:1], tasks=[0])
    assert env.step(action).truncated.tolist() == [[True, True]] + [[False, False]] * 7


def test_resume_in_the_middle_of_an_episode_is_exact(tmp_path: Path) -> None:
    env = make(horizon=60)
    actions = draw_actions(130)
    for action in actions[:50]:
        env.step(action)
    path = save_checkpoint(tmp_path, 50, env.state_dict())
    resumed = make(horizon=60, threads=2, seed=99)
    resumed.step(actions[0])
    resumed.load_state_dict(read_checkpoint(path))
    for action in actions[50:]:  # over two restarts, with new random starts
        assert same(env.step(action), resumed.step(action))
    assert torch.equal(states(env), states(resumed))
    resumed.close()


@pytest.mark.parametrize("threads", [2, 3, 20])
def test_threads_do_not_change_the_numbers(threads: int) -> None:
    env, threaded = make(horizon=30), make(horizon=30, threads=threads)
    for action in draw_actions(70):
        assert same(env.step(action), threaded.step(action))
    assert same(env.step(action[:1], [3]), threaded.step(action[:1], [3]))
    threaded.close()


def test_an_episode_of_zeros_returns_the_distance_over_the_time_of_a_step() -> None:
    env = make(horizon=20)
    env.reset(4)
    start = states(env)[..., 1]
    probe = make(horizon=100)
    probe.reset(4)
    for _ in range(20):
        probe.step(torch.zeros(8, 2, 6))
    expected = (states(probe)[..., 1] - start) / 0.05
    episodes = play_episodes(env, lambda obs: torch.zeros(8, 2, 6), seed=4)
    assert torch.allclose(episodes.returns.double(), expected, atol=1e-5)
    assert not episodes.success.any()


def test_bad_names_and_numbers_say_what_is_legal() -> None:
    with pytest.raises(UserError, match=r"'cheetah9' \(there are: cheetah, cheetah6, cheetah8, "):
        make("cheetah9")
    with pytest.raises(UserError, match=r"'BigTail' \(there are: Plain, SmallTorso, .*BigFoot\)"):
        cheetah_model("BigTail")
    with pytest.raises(UserError, match="num_envs is 12, but must be a multiple of the 8 tasks"):
        make(count=12)
    with pytest.raises(UserError, match="num_envs is 0, but must be at least 1"):
        make(count=0)
    with pytest.raises(UserError, match="horizon is 0, but must be at least 1"):
        CheetahConfig(horizon=0)


def test_bad_actions_and_tasks_are_refused_before_anything_moves() -> None:
    env = make()
    before = states(env)
    action = draw_actions(1)[0]
    with pytest.raises(ValueError, match=r"shape \(8, 2, 6\), expected \(1, 2, 6\)"):
        env.step(action, tasks=[0])
    with pytest.raises(ValueError, match=r"tasks are \[0, 0\], but must be different numbers"):
        env.step(action[:2], tasks=[0, 0])
    with pytest.raises(ValueError, match=r"tasks are \[8\], but must be .* from 0 to 7"):
        env.step(action[:1], tasks=[8])
    action[3, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="an action is not finite"):
        env.step(action)
    assert torch.equal(states(env), before)
