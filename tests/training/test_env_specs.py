"""What environments are called, what their runs are configured by, and what is measured in them."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from polyreach.commands.train import train_config
from polyreach.envs.cheetahs import CheetahConfig, CheetahSpec
from polyreach.envs.env_spec import PRESETS
from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.envs.metaworld.spec import MetaWorldSpec
from polyreach.envs.reach.task_reach import TaskReachConfig
from polyreach.envs.registry import find_env_spec, list_envs
from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.errors import UserError
from polyreach.methods import METHODS, get_method
from polyreach.runs import folder as folder_module
from polyreach.runs import training
from polyreach.runs.config import RunConfig, RunError, load_run_robot
from polyreach.runs.folder import RunFolder
from polyreach.runs.training import Checkpoints

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
TOLD = [name for name, method in METHODS.items() if method.task_conditioned]


class TinyTasks(TaskEnv):
    """Two tasks of three steps. A step of task t gives t + 1; the even environments of the last
    task succeed in the middle of an episode.
    """

    task_names = ("near", "far")
    obs_size, action_size, horizon = 2, 1, 3
    success_at_end = False

    def __init__(self, envs_per_task: int) -> None:
        self.envs_per_task, self.device, self.elapsed = envs_per_task, torch.device("cpu"), 0

    def reset(self, seed: int) -> Tensor:
        self.elapsed = 0
        return torch.zeros(2, self.envs_per_task, 2)

    def step(self, action: Tensor, tasks: Any = None) -> TaskStep:
        assert tasks is None and action.shape == (2, self.envs_per_task, 1)
        self.elapsed += 1
        shape = (2, self.envs_per_task)
        obs = torch.full((*shape, 2), float(self.elapsed))
        success = torch.zeros(shape, dtype=torch.bool)
        success[1, ::2] = self.elapsed == 2
        over = torch.full(shape, self.elapsed == self.horizon)
        reward = torch.tensor([[1.0], [2.0]]).expand(shape)
        return TaskStep(obs, reward, torch.zeros_like(over), over, success, obs)

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.elapsed = state["elapsed"]


def still(obs: Tensor) -> Tensor:
    return torch.zeros(*obs.shape[:2], 1)


def test_an_evaluation_reports_return_and_success_of_every_task() -> None:
    record = MetaWorldSpec("mt3").evaluate(TinyTasks(4), still)
    assert record == {
        "return": 4.5,
        "return_near": 3.0,
        "return_far": 6.0,
        "success": 0.25,
        "success_near": 0.0,
        "success_far": 0.5,
    }


def test_cheetahs_are_evaluated_by_return_only() -> None:
    record = CheetahSpec("cheetah8").evaluate(TinyTasks(1), still)
    assert record == {"return": 4.5, "return_near": 3.0, "return_far": 6.0}
    assert CheetahSpec("cheetah8").note({"return": 1234.5}) == "return 1,234"


def test_a_robots_tasks_are_measured_at_an_episodes_end() -> None:
    env_spec = find_env_spec("planar8", task_conditioned=True)
    settings = TaskReachConfig(configurations=100, horizon_s=0.2, tolerance=10.0)
    env = env_spec.make_evaluation(settings, 3, "cpu", 1)

    def stand(obs: Tensor) -> Tensor:
        return torch.zeros(*obs.shape[:2], env.action_size)

    record = env_spec.evaluate(env, stand)
    assert env.envs_per_task == 3 and env.tasks == 4
    assert env.robots.config.all_active == 1.0 and bool(env.robots.active[-3:].all())
    assert record["success"] == 1.0 and record["error_median_together"] > 0
    assert record == env_spec.evaluate(env, stand)
    strict = env_spec.make_evaluation(replace(settings, tolerance=0.0), 3, "cpu", 1)
    assert env_spec.evaluate(strict, stand)["success"] == 0.0


@pytest.mark.parametrize("env", ["mt3", "mt10", "mt50", "cheetah8", "planar8", str(GANTRY)])
def test_an_environments_defaults_can_be_run(env: str) -> None:
    env_spec = find_env_spec(env, task_conditioned=True)
    for preset in PRESETS:
        defaults = env_spec.defaults(preset)
        assert defaults.num_envs % len(env_spec.tasks) == 0 and defaults.num_envs > 0
        assert 1 <= defaults.eval_every < defaults.steps and defaults.eval_goals >= 1
        for name in TOLD:
            _, env_config = get_method(name).preset(preset, env_spec)
            assert type(env_config) is env_spec.config


def test_every_kind_of_run_is_stored_and_read(tmp_path: Path) -> None:
    for index, (method, env, config) in enumerate(
        [
            ("mtsac", "mt3", MetaWorldConfig),
            ("picor", "cheetah8", CheetahConfig),
            ("dgrad-o", "planar8", TaskReachConfig),
            ("digrad", "planar8", find_env_spec("planar8", False).config),
        ]
    ):
        _, wanted = train_config([method, env, "--seed", "7", "--method-config.hidden", "8", "9"])
        assert type(wanted.env_config) is config and wanted.method_config.hidden == (8, 9)
        folder = RunFolder(tmp_path / str(index))
        folder.create(wanted)
        assert folder.read_config() == wanted
        machine = folder.read_origins()[0]["machine"]
        assert machine["threads"] == 1 and machine["torch"] == torch.__version__
        assert machine["cores"] >= 1 and machine["cpu"]
        resumed = train_config(["--resume", str(tmp_path / str(index))])[1]
        assert resumed == wanted


def test_a_run_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    _, wanted = train_config(["digrad", "planar8"])
    values = wanted.to_json()
    del values["env_version"]
    (tmp_path / "config.json").write_text(json.dumps({"config": values, "git_commit": "abc"}))
    assert RunFolder(tmp_path).read_config() == wanted
    assert RunFolder(tmp_path).read_origins() == [{"git_commit": "abc"}]


def test_settings_of_another_environment_are_refused() -> None:
    values = train_config(["mtsac", "cheetah8"])[1].to_json()
    with pytest.raises(RunError, match="another version"):
        RunConfig.from_json({**values, "env": "mt3"})


def test_only_a_robots_run_has_a_robot() -> None:
    with pytest.raises(RunError, match="'cheetah8', which is not a robot"):
        load_run_robot(train_config(["mtsac", "cheetah8"])[1])
    config = train_config(["mtsac", "planar8"])[1]
    assert load_run_robot(config).name == "planar8"
    with pytest.raises(RunError, match="has changed"):
        load_run_robot(replace(config, robot_sha256="0" * 64))


@pytest.mark.parametrize(("told", "named"), [(True, list(list_envs())), (False, [])])
def test_an_unknown_environment_is_refused_with_the_legal_ones(
    told: bool, named: list[str]
) -> None:
    with pytest.raises(UserError, match="unknown .* 'mt11'") as caught:
        find_env_spec("mt11", told)
    for name in [*named, "planar8", "humanoid27", "robot.yaml"]:
        assert name in str(caught.value)


def test_a_change_of_machine_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config = train_config(["mtsac", "cheetah8"])
    folder = RunFolder(tmp_path)
    folder.create(config)
    folder.note_origin(config, 10)
    assert len(folder.read_origins()) == 1
    monkeypatch.setattr(folder_module, "describe_machine", lambda device, threads: {"cpu": "other"})
    folder.note_origin(config, 20)
    folder.note_origin(config, 30)
    first, second = folder.read_origins()
    whole = folder.moves.read_text()
    folder.moves.write_text(whole + whole[:20])  # as a kill leaves it
    monkeypatch.setattr(folder_module, "git_commit", lambda: "def")
    folder.note_origin(config, 40)
    assert [origin.get("step") for origin in folder.read_origins()] == [None, 20, 40]
    assert folder.read_git_commits() == [first["git_commit"], "def"]
    assert second["machine"] == {"cpu": "other"} and second["step"] == 20
    assert first["git_commit"] == second["git_commit"]


def test_large_checkpoints_are_written_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, took, saved = [0.0], [6.0], []

    def save(folder: Path, step: int, state: dict[str, Any]) -> None:
        now[0] += took[0]
        saved.append((step, state))

    monkeypatch.setattr(training, "save_checkpoint", save)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    learner: Any = SimpleNamespace(env_steps=5, state_dict=lambda: {"weights": 1})
    checkpoints = Checkpoints(tmp_path, learner, lambda: 42.0, interval=60.0)

    def wait(seconds: float) -> int:
        now[0] += seconds
        checkpoints.save_if_due()
        return len(saved)

    assert (wait(59), wait(2)) == (0, 1)
    assert saved[0] == (5, {"weights": 1, "wall_s": 42.0})
    # one that took 6 s is followed by another after 120 s
    assert (wait(119), wait(2)) == (1, 2)
    took[0] = 0.1
    assert wait(121) == 3
    assert (wait(59), wait(2)) == (3, 4)


def test_the_version_of_metaworld_belongs_to_a_run() -> None:
    if importlib.util.find_spec("metaworld") is None:
        pytest.skip("metaworld is not installed")
    assert train_config(["mtsac", "mt3"])[1].env_version.startswith("metaworld 3.")
    assert train_config(["mtsac", "cheetah8"])[1].env_version == ""
