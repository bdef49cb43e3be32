"""Settings of the reach environments."""

from dataclasses import dataclass
from typing import Literal

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.reach.reward import RewardName
from polyreach.errors import check_range

Mode = Literal["kinematic", "dynamic"]
MAX_DELAY_S = 1.0  # [s], of the settings


@dataclass(frozen=True)
class ReachConfig(EnvConfig):
    """A reach environment."""

    mode: Mode = "kinematic"
    """kinematic: velocities are integrated. dynamic: MuJoCo with velocity servos."""
    acceleration_limits: bool = False
    """Commands change no faster than the joints' acceleration limits allow and brake before
    position limits, as those of the controller do. To learn with them, a policy needs
    observe_velocity: without it, DiGrad on planar8 reached 3 % of the goal sets after 300,000
    steps.
    """
    max_delay_s: float = 0.0
    """Largest time from a command to its effect [s]. Every episode has its own, from 0 to this; in
    the dynamic mode it is a whole number of the simulation's steps.
    """
    max_lag_s: float = 0.0
    """Largest time constant of the servos [s], in the kinematic mode; every episode has its own,
    from 0 to this. In the dynamic mode the servos are simulated.
    """
    observe_velocity: bool = False
    """The observation contains previous_joint_vel, the command of the control period before, after
    its limits. Actions are in units of the velocity limits then; otherwise in those of the robot's
    action speeds, from which a joint that does not know its speed stops in time.
    """
    horizon_s: float = 4.0
    """Length of an episode [s]; its end truncates, and never terminates."""
    action_repeat: int = 2
    """Control periods of the robot for which one action is held."""
    all_active: float = 0.7
    """Share of episodes in which every effector has a goal; in the others, a random non-empty
    subset has goals.
    """
    tolerance: float = 0.02
    """Error below which a goal is reached [m]."""
    reward: RewardName = "precise"
    """Reward function; see polyreach.envs.reach.reward."""
    nearness_cost: float = 0.0
    """What a step costs a task when two bodies that it moves against each other are as near as the
    stop distance; the cost grows linearly from 0 at the slow distance. See
    polyreach.envs.reach.nearness.
    """
    configurations: int = 20000
    """Size of the bank of collision-free configurations from which starts and goals are drawn."""
    clear_configurations: bool = False
    """In these configurations bodies are also farther apart than the stop distance."""
    moving_goals: float = 0.0
    """Share of the episodes in which the goals move, smoothly back and forth along the effectors'
    paths between two configurations.
    """
    goal_speed: float = 0.3
    """Largest speed of goals that move [m/s]; every episode has its own, from 0 to this."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_range("max_delay_s", self.max_delay_s, 0.0, MAX_DELAY_S)
        check_range("max_lag_s", self.max_lag_s, 0.0, MAX_DELAY_S)
        check_range("horizon_s", self.horizon_s, 1e-3)
        check_range("action_repeat", self.action_repeat, 1)
        check_range("all_active", self.all_active, 0.0, 1.0)
        check_range("tolerance", self.tolerance, 0.0)
        check_range("nearness_cost", self.nearness_cost, 0.0)
        check_range("configurations", self.configurations, 1)
        check_range("moving_goals", self.moving_goals, 0.0, 1.0)
        check_range("goal_speed", self.goal_speed, 0.0)
