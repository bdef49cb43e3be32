"""Reach with every effector at once and a reward for each, for methods that see the vector of task
rewards: digrad-2018.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.networks.policy import Policy, RobotPolicy
from polyreach_description import Robot


class EffectorReachEnv(TaskEnv):
    """One row of n robots whose tasks, effector i at goal i, are all done at once: there is no task
    id, and a transition has K rewards, one for each effector or one in all (see
    polyreach.envs.reach.reward).

    Observations (1, n, O) are those of polyreach.envs.reach.reach. Success is an error below
    the tolerance for every active effector. An episode is cut off by its time limit and never ends
    before; with `stagger` the first ones end at different times, so that later on they do not all
    start at once.
    """

    task_names = ("all effectors",)
    success_at_end = True

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        config: ReachConfig,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
        stagger: bool = True,
    ) -> None:
        self.robots = ReachEnv(robot, num_envs, config, device, threads, seed)
        self.stagger, self.envs_per_task = stagger, num_envs
        self.device, self.horizon = self.robots.device, self.robots.horizon
        self.obs_size, self.action_size = self.robots.observation.shape[1], self.robots.joints
        self.reward_shape = (self.robots.rewards,)
        self.error = self.robots.error()[None]
        """Errors (1, n, E) [m] in the state that was reached last, before any restart."""

    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew, everything random drawn from `seed`; (1, n, O)."""
        obs, _ = self.robots.reset(seed=seed, options={"stagger": self.stagger})
        self.error = self.robots.error()[None]
        return obs[None]

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (1, n, nu); `tasks` is [0] or None."""
        _, clipped = self.checked(action, tasks)
        obs, _, terminated, truncated, infos = self.robots.step(clipped[0])
        self.error = infos["error"][None]
        return TaskStep(
            obs=obs[None],
            reward=infos["task_reward"][None],
            terminated=terminated[None],
            truncated=truncated[None],
            success=(infos["success"] | (infos["active"] == 0)).all(dim=1)[None],
            final_obs=infos["final_obs"][None],
        )

    def robot_policy(self, actor: Policy) -> RobotPolicy:
        """`actor` itself, which observes what a robot does."""
        assert isinstance(actor, RobotPolicy)
        return actor

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return self.robots.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the steps that follow are the same to the last bit."""
        self.robots.load_state_dict(state)
        self.error = self.robots.error()[None]

    def close(self) -> None:
        """Stop the threads of the simulation."""
        self.robots.close()
