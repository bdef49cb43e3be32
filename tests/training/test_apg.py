"""The analytic policy gradient: its equation by hand, its settings, and a short run."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.errors import UserError
from polyreach.methods.apg import APG, METHOD, APGConfig
from polyreach.robot.configuration_search import CANDIDATES
from polyreach_description import load_robot

WELDER = str(Path(__file__).parents[1] / "robots" / "welder" / "robot.yaml")


def learner_of(robot: str = "planar8", count: int = 32, **settings: object) -> APG:
    config = replace(APGConfig(hidden=(32,), warm_up=5), **settings)
    env = EffectorReachEnv(load_robot(robot), count, ReachConfig(configurations=200), seed=1)
    return APG(config, env, total_steps=count * 400, seed=0)


@pytest.mark.parametrize("robot", ["planar8", WELDER], ids=["planar8", "welder"])
def test_goals_are_reached_by_other_configurations(robot: str) -> None:
    learner = learner_of(robot)
    sets = learner.draw(8)
    assert sets.goals.active.any(dim=1).all()
    bank = learner.env.robots.configurations
    frames = learner.kinematics.frames_at(bank)
    distance = (learner.kinematics.effectors_of(frames)[None] - sets.goals.position[:, None]).norm(
        dim=-1
    )
    assert (distance.amax(dim=2).amin(dim=1) < 1e-5).all()
    assert (sets.goals.rotation is not None) == (robot == WELDER)
    assert (sets.needed <= learner.stop_distance + learner.config.margin).all()


def test_costs_by_hand() -> None:
    learner = learner_of()
    sets = learner.draw(4)
    # where it is: no time, and nothing nearer than at the start
    share = torch.full((4, 1), 0.5)
    stay = learner.cost(sets, sets.joint_pos, share)
    assert stay.time.abs().max() == 0.0 and stay.nearness.abs().max() < 1e-6
    now = learner.kinematics.effectors_of(learner.kinematics.frames_at(sets.joint_pos))
    error = (now - sets.goals.position).norm(dim=-1) * sets.goals.active
    assert torch.allclose(stay.reach, (error / (error + 0.1)).sum(dim=1), atol=1e-5)
    assert torch.allclose(stay.total, stay.reach, atol=1e-5)
    speeds = torch.tensor(learner.env.robots.robot.joint_vel_limits).float()
    target = sets.joint_pos.clone()
    target[:, 2] += 0.5 * speeds[2]
    target[:, 7] -= 0.3 * speeds[7]
    moved = learner.cost(sets, target, share)
    # the slowest, and a tenth of the mean
    assert torch.allclose(moved.time, torch.full((4,), 0.5 + 0.1 * 0.8 / 8), atol=1e-5)
    expected = moved.reach + 10.0 * moved.nearness + 0.15 * moved.time
    assert torch.allclose(moved.total, expected, atol=1e-5)


def test_nearness_is_the_nearest_pair_and_a_fifth_of_all_at_the_end_and_on_the_way() -> None:
    learner = learner_of()
    sets = learner.draw(3)
    short = torch.tensor([0.01, 0.03])

    class Two:
        """Clearances of two pairs, less than needed by 1 and 3 cm everywhere."""

        def __call__(self, frames: Tensor) -> Tensor:
            return 0.02 - short.expand(len(frames), 2)

    learner.clearance = Two()  # type: ignore[assignment]
    sets = sets._replace(needed=torch.full((3, 2), 0.02))
    found = learner.cost(sets, sets.joint_pos, torch.zeros(3, 1))
    assert torch.allclose(found.nearness, torch.full((3,), 2 * (0.03 + 0.2 * 0.04)))


def test_the_best_configuration_has_the_weight_but_for_the_rest() -> None:
    learner = learner_of(count=6, grad_clip=1e9, rest=0.3, nearness_weight=0.0)
    sets = learner.draw(6)
    # without bodies, costs do not depend on the random point on the way; `rest` draws as update
    state = learner.generator.get_state()
    torch.rand(6, 1, generator=learner.generator)
    other = torch.randint(CANDIDATES, (6,), generator=learner.generator)
    learner.generator.set_state(state)
    targets = learner.actor.targets(sets.joint_pos, sets.goals)
    share, loss = torch.zeros(1, 1), torch.zeros(())
    for row in range(6):
        rows = torch.tensor([row])
        costs = [
            learner.cost(sets.rows(rows), targets[row, k][None], share).total[0]
            for k in range(CANDIDATES)
        ]
        best = min(costs, key=float)
        # (1 - rest) min over k of the cost + rest times a random one
        loss = loss + (0.7 * best + 0.3 * costs[int(other[row])]) / 6
    expected = torch.autograd.grad(loss, list(learner.actor.parameters()))
    metrics = learner.update(sets)
    assert metrics["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    for parameter, gradient in zip(learner.actor.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)
    assert max(float(g.abs().max()) for g in expected) > 1e-3


def test_rates_rise_and_fall() -> None:
    learner = learner_of(warm_up=4, lr=1e-3, final_lr=0.1)
    rates = []
    for updates, steps in ((0, 0), (1, 0), (3, 0), (4, learner.total_steps // 2), (9, 10**9)):
        learner.updates, learner.env_steps = updates, steps
        learner.schedule_rates()
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([2.5e-4, 5e-4, 1e-3, 5.5e-4, 1e-4])


def best_cost(learner: APG) -> float:
    """Mean cost of the best configuration, for goal sets of its own."""
    other = learner_of(count=300)
    sets = other.draw(300)
    with torch.no_grad():
        targets = learner.actor.targets(sets.joint_pos, sets.goals)
        many = torch.arange(300).repeat_interleave(CANDIDATES)
        half = torch.full((len(many), 1), 0.5)
        costs = other.cost(sets.rows(many), targets.flatten(0, 1), half).total
    return float(costs.reshape(300, -1).amin(dim=1).mean())


def test_a_short_run_beats_its_start_and_resumes_bit_for_bit() -> None:
    learner = learner_of(count=64, hidden=(64, 64), lr=3e-3)
    start = best_cost(learner)
    for _ in range(150):
        learner.step()
    assert learner.env_steps == 150 * 64 and learner.updates == 150
    again = learner_of(count=64, hidden=(64, 64), lr=3e-3)
    again.step()
    again.load_state_dict(deepcopy(learner.state_dict()))
    for _ in range(3):
        assert learner.step() == again.step()
    for ours, theirs in zip(learner.actor.parameters(), again.actor.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert best_cost(learner) < 0.9 * start


def test_joints_that_serve_no_active_effector_stay_where_they_are() -> None:
    learner = learner_of()
    sets = learner.draw(8)
    active = torch.tensor([[1.0, 0.0, 0.0]]).expand(8, 3)
    goals = sets.goals._replace(active=active)
    targets = learner.actor.targets(sets.joint_pos, goals)
    serves = torch.tensor(learner.env.robots.robot.action_sets[0])
    start = sets.joint_pos[:, None].expand_as(targets)
    assert torch.equal(targets[..., ~serves], start[..., ~serves])
    action = learner.actor.mean_action(learner.env.robots.observation[None])
    assert action.shape == (1, 32, 8) and action.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("setting", "value", "legal"),
    [
        ("lr", 0.0, "at least 1e-12"),
        ("grad_clip", -1.0, "at least 1e-12"),
        ("reach_scale", 0.0, "at least 1e-12"),
        ("nearness_weight", -1.0, "at least 0"),
        ("margin", float("inf"), "at least 0"),
        ("time_weight", float("nan"), "at least 0"),
        ("warm_up", -1, "at least 0"),
        ("final_lr", 1.5, "from 0 to 1"),
        ("rest", -0.1, "from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: float, legal: str) -> None:
    message = f"^{setting} is {value:g}, but must be {legal}$"
    with pytest.raises(UserError, match=message):
        APGConfig(**{setting: value})
    with pytest.raises(UserError, match="hidden is .*widths of at least 1"):
        APGConfig(hidden=())


def test_it_is_not_conditioned_on_the_task() -> None:
    assert not METHOD.task_conditioned and METHOD.name == "apg"
