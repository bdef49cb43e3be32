"""Presets of every method in every kind of environment, and methods' names of earlier versions."""

from dataclasses import replace
from typing import Any

import pytest

from polyreach import methods
from polyreach.commands.train import train_config
from polyreach.envs.env_spec import PRESETS, EnvSpec, preset_name
from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.envs.registry import find_env_spec
from polyreach.errors import UserError
from polyreach.methods import METHODS, MODULES, OLD_NAMES, get_method
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.runs.config import RunConfig

ENVS = ("mt3", "cheetah8", "hoppers3", "planar8")
PAIRS = [
    (name, env)
    for name, method in METHODS.items()
    for env in (ENVS if method.task_conditioned else ("planar8",))
]


def spec_for(method: Method, env: str) -> EnvSpec:
    return find_env_spec(env, method.task_conditioned)


def presets(name: str, env: str) -> tuple[tuple[Any, Any], ...]:
    method = get_method(name)
    return tuple(method.preset(preset, spec_for(method, env)) for preset in PRESETS)


@pytest.mark.parametrize(("name", "env"), PAIRS)
def test_every_method_has_both_presets_in_every_environment_it_acts_in(name: str, env: str) -> None:
    method, spec = METHODS[name], spec_for(METHODS[name], env)
    paper, tuned = presets(name, env)
    for config, env_config in (paper, tuned):
        assert type(config) is method.config and type(env_config) is spec.config
    assert paper[0] == method.config(), "the defaults are the paper's"
    assert (paper == tuned) is (spec.name in BENCHMARKS)


def test_every_module_registers_a_method_of_another_name() -> None:
    assert len(METHODS) == len(MODULES)
    assert OLD_NAMES == {"sac": "independent-sac"} and not METHODS.keys() & OLD_NAMES.keys()


def test_tuned_settings_exist_only_for_kinds_of_environments() -> None:
    kinds = {find_env_spec(env, task_conditioned=True).name for env in ENVS}
    for method in METHODS.values():
        assert set(method.tuned) == (kinds if method.task_conditioned else {"robot"})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("digrad", {"hidden": (256, 256), "relabel": 0.5, "critic_lr": 1e-3, "actor_lr": 6e-4}),
        ("ddpg", {"hidden": (256, 256), "relabel": 0.5, "noise_steps": 3_000_000}),
        ("mtsac", {"hidden": (256, 256), "alpha_lr": 3e-3, "initial_alpha": 0.1, "tau": 0.01}),
        ("dgrad-a", {"hidden": (160, 160, 160), "alpha_lr": 3e-3, "smoothness": 0.3}),
        ("dgrad-o", {"hidden": (256, 256), "batch_size": 64, "combine": "sum"}),
        ("soft-modularization", {"hidden": (128,), "layers": 2, "actor_lr": 1e-3}),
        ("ktm", {"hidden": (256, 256), "gamma": 0.95, "teacher_share": 0.5}),
        ("picor", {"temperature": 0.01, "initial_alpha": 0.1, "penalty": 1000.0}),
        ("ars", {"resets": 4, "initial_alpha": 0.1, "batch_size": 64, "layer_norm": False}),
        ("ppo", {"batch_steps": 8192, "final_lr": 0.05, "smoothness": 0.3, "clip": 0.2}),
        ("specialization", {"joint_steps": 300_000, "epochs": 5, "gamma": 0.95}),
        ("a2c", {"critic_hidden": (256, 256), "gamma": 0.95, "t_max": 5, "order": "together"}),
        ("fine-tuning", {"critic_hidden": (256, 256), "sharing": "none", "reward_scale": 0.1}),
        ("distillation", {"t_max": 1, "match": "action", "final_lr": 0.05, "lr": 1e-3}),
    ],
)
def test_tuned_settings_on_robots(name: str, settings: dict[str, Any]) -> None:
    _, (config, _) = presets(name, "planar8")
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("digrad", ("paper", "precise")),
        ("ddpg", ("paper_scalar", "precise_sum")),
        ("mtsac", ("paper_sum", "precise_sum")),
    ],
)
def test_the_environment_s_presets_on_robots(name: str, rewards: tuple[str, str]) -> None:
    (_, paper), (_, tuned) = presets(name, "planar8")
    assert (paper.reward, tuned.reward) == rewards
    assert (paper.action_repeat, tuned.action_repeat) == (2, 4)
    assert (paper.all_active, tuned.all_active) == (1.0, 0.7)


class Pendulums(type(find_env_spec("mt3", task_conditioned=True))):  # type: ignore[misc]
    """Environments of a kind that no method is tuned for."""

    name = "pendulums"


def test_settings_that_no_one_has_set_are_an_error() -> None:
    env, method = Pendulums("pendulum2"), get_method("picor")
    with pytest.raises(UserError) as caught:
        method.preset("tuned", env)
    assert str(caught.value) == (
        "method 'picor' has no settings of preset 'tuned' for environment 'pendulum2' of kind "
        "'pendulums' (legal: preset paper; preset tuned for kinds robot, metaworld, cheetahs, "
        "legged)"
    )
    # the paper's settings do not depend on the environment
    assert method.preset("paper", env) == (method.config(), MetaWorldConfig())
    with pytest.raises(UserError, match="preset tuned for kinds none"):
        replace(method, tuned={}).preset("tuned", find_env_spec("mt3", task_conditioned=True))


def test_an_unknown_preset_is_refused_with_the_legal_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'fast' \(legal: paper, tuned\)"):
        preset_name("fast")
    with pytest.raises(UserError, match="unknown preset 'fast'"):
        train_config(["mtsac", "planar8", "--preset", "fast"])


def test_a_method_s_name_of_an_earlier_version_is_accepted_with_a_notice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    methods._note_old_name.cache_clear()  # another test of this process may have used the name
    options, config = train_config(["sac", "planar8"])
    assert options.method == config.method == "independent-sac"
    stored = {**config.to_json(), "method": "sac"}
    assert RunConfig.from_json(stored) == config
    notice = capsys.readouterr().err
    assert notice.count("method 'sac' is now called 'independent-sac'") == 1
    with pytest.raises(UserError, match=r"unknown method 'sacs' \(legal: ddpg, .*independent-sac"):
        get_method("sacs")
