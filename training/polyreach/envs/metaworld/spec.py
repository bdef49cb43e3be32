"""Meta-World's task sets as environments of a run."""

from importlib.metadata import PackageNotFoundError, version

from polyreach.envs.env_spec import EVALUATION_SEED, Defaults, EnvSpec, PresetName, Record
from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv


class MetaWorldSpec(EnvSpec[MetaWorldConfig, MetaWorldEnv]):
    """A set of Meta-World's tasks; every goal is played once in an evaluation."""

    name = "metaworld"
    envs = tuple(TASK_SETS)
    config = MetaWorldConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """Meta-World's names."""
        return TASK_SETS[self.env]

    @property
    def version(self) -> str:
        """Version of the package metaworld; empty where it is missing."""
        try:
            return f"metaworld {version('metaworld')}"
        except PackageNotFoundError:
            return ""

    def settings(self, preset: PresetName) -> MetaWorldConfig:
        """The same for both presets."""
        return MetaWorldConfig()

    def defaults(self, preset: str) -> Defaults:
        """The budget of picor-2023 for ten tasks, as much for each of any other number."""
        tasks = len(self.tasks)
        return Defaults(500_000 * tasks, tasks, eval_every=20_000, eval_goals=1)

    def make(
        self, config: MetaWorldConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> MetaWorldEnv:
        """num_envs is over all tasks."""
        return MetaWorldEnv(self.env, num_envs, config, device, seed)

    def make_evaluation(
        self, config: MetaWorldConfig, goals: int, device: str, threads: int
    ) -> MetaWorldEnv:
        """Every goal once; `goals` does not matter."""
        tasks = len(self.tasks)
        return MetaWorldEnv(self.env, tasks, config, device, EVALUATION_SEED, every_goal=True)

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return "every goal once in an evaluation"

    def note(self, record: Record) -> str:
        """The share of goals that are reached."""
        return f"success {record['success']:.0%}"


SPEC = MetaWorldSpec
