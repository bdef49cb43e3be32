"""Hoppers and biped as environments of a run."""

from polyreach.envs.batched_sim import SimulatedEnvSpec
from polyreach.envs.env_spec import Defaults, PresetName
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv


class LeggedSpec(SimulatedEnvSpec[LeggedConfig, LeggedEnv]):
    """Hoppers of different build, or a biped that walks forward and backward."""

    name = "legged"
    envs = tuple(LEGGED_GROUPS)
    config = LeggedConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the variants."""
        return tuple(LEGGED_GROUPS[self.env])

    @property
    def version(self) -> str:
        """Version of the robots and their reward, which distinguishes runs of earlier ones."""
        return "robots as in dart-env"

    def settings(self, preset: PresetName) -> LeggedConfig:
        """The same for both presets."""
        return LeggedConfig()

    def defaults(self, preset: str) -> Defaults:
        """A million steps of each task."""
        tasks = len(self.tasks)
        return Defaults(1_000_000 * tasks, 4 * tasks, eval_every=50_000 * tasks, eval_goals=10)

    def make(
        self, config: LeggedConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> LeggedEnv:
        """num_envs is over all tasks."""
        return LeggedEnv(self.env, num_envs, config, device, threads, seed)


SPEC = LeggedSpec
