"""Refinement of configurations, and the search that chooses, keeps and follows one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.robot.configuration_search import CANDIDATES, PATIENCE, ConfigurationSearch
from polyreach.robot.goals import Goals
from polyreach.robot.obstacle_clearance import read_obstacles
from polyreach.robot.refinement import Refinement
from polyreach_description import Robot, load_robot
from polyreach_description.limits import POSITION_MARGIN
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES

WELDER = Path(__file__).parents[1] / "robots" / "welder" / "robot.yaml"
ROBOT = load_robot("planar8")
PERIOD = 1.0 / ROBOT.control_rate
NOTHING = torch.tensor(NO_OBSTACLE).expand(1, OBSTACLES, -1)


def draw(robot: Robot, count: int, seed: int) -> Tensor:
    clear = robot.sample_configuration(np.random.default_rng(seed), count)
    return torch.tensor(clear).float()


def goals_at(refinement: Refinement, joint_pos: Tensor, active: Tensor | None = None) -> Goals:
    frames = refinement.kinematics.frames_at(joint_pos)
    position = refinement.kinematics.effectors_of(frames)
    active = torch.ones(position.shape[:2]) if active is None else active
    if not refinement.errors.turning:
        return Goals(position, active)
    return Goals(position, active, refinement.kinematics.rotations_of(frames), active)


def missing(refinement: Refinement, joint_pos: Tensor, goals: Goals) -> Tensor:
    errors = refinement.errors
    return errors.size(errors(refinement.kinematics.frames_at(joint_pos), goals))


@pytest.mark.parametrize("name", ["planar8", str(WELDER)], ids=["planar8", "welder"])
def test_refinement_reaches_poses_nearby(name: str) -> None:
    robot = load_robot(name)
    refinement = Refinement(robot)
    end = 0.8 * draw(robot, 60, 0)
    goals, start = goals_at(refinement, end), end + 0.1 * torch.randn(60, end.shape[1])
    sizes = [missing(refinement, refinement(start, goals, steps), goals) for steps in range(5)]
    medians = [float(size.amax(dim=1).median()) for size in sizes]
    assert medians[0] > 0.03 and medians[2] < 0.1 * medians[0] and medians[4] < 1e-3


def test_refinement_keeps_to_limits_and_to_the_joints_that_serve() -> None:
    refinement = Refinement(ROBOT)
    start = draw(ROBOT, 40, 1)
    active = torch.tensor([[1.0, 0.0, 0.0]]).expand(40, 3)
    goals = Goals(torch.full((40, 3, 3), 5.0), active)  # far out of reach
    found = refinement(start, goals, 20)
    assert (found <= refinement.high).all() and (found >= refinement.low).all()
    serves = torch.tensor(ROBOT.action_sets[0])
    assert torch.equal(found[:, ~serves], start[:, ~serves])
    assert (found - start)[:, serves].abs().max() > 0.1
    alone = refinement(start[3:4], goals.map(lambda part: part[3:4]), 5)
    assert torch.allclose(alone, refinement(start, goals, 5)[3:4], atol=1e-5)


def test_a_joint_position_and_its_place_in_the_range_that_a_controller_keeps() -> None:
    refinement, (low, high) = Refinement(ROBOT), torch.tensor(ROBOT.joint_pos_limits).float().T
    margin = POSITION_MARGIN * (high - low)
    ends = torch.stack([low + margin, high - margin])
    assert torch.allclose(refinement.joint_pos(torch.tensor([[-1.0], [1.0]]).expand(2, 8)), ends)
    assert torch.allclose(refinement.place(ends)[:, 0], torch.tensor([-1.0, 1.0]))


class Loop:
    """Robots that follow a search exactly, and what it asks of a policy."""

    def __init__(
        self,
        joint_pos: Tensor,
        named: Tensor | None = None,
        obstacles: Tensor = NOTHING,
        robot: Robot = ROBOT,
    ) -> None:
        self.obstacles = read_obstacles(obstacles.expand(len(joint_pos), -1, -1))
        self.search = ConfigurationSearch(robot)
        self.joint_pos, self.velocity = joint_pos.clone(), torch.zeros_like(joint_pos)
        self.memory = torch.zeros(len(joint_pos), self.search.memory_size)
        self.named, self.asked = named, 0

    def propose(self) -> Tensor:
        self.asked += 1
        if self.named is None:
            return self.search.spread(0 * self.joint_pos[:, :1])
        return self.named[:, None].expand(-1, CANDIDATES, -1)

    @torch.no_grad()
    def step(self, goals: Goals, times: int = 1) -> None:
        for _ in range(times):
            self.velocity, self.memory = self.search(
                self.joint_pos, self.velocity, goals, self.obstacles, self.memory, self.propose
            )
            self.joint_pos = self.joint_pos + self.search.period * self.velocity

    @property
    def target(self) -> Tensor:
        return self.search.track.read(self.memory).target

    @property
    def searches(self) -> list[float]:
        return self.search.track.read(self.memory).searches[:, 0].tolist()


def test_what_is_named_is_taken_and_kept_and_reached() -> None:
    end = torch.tensor(ROBOT.home).float()[None] + 0.3
    loop = Loop(torch.tensor(ROBOT.home).float()[None], named=end)
    goals = goals_at(loop.search.refinement, end)
    loop.step(goals)
    target = loop.target
    assert torch.allclose(target, end, atol=1e-3) and loop.asked == 1
    loop.step(goals, 100)
    # neither asked again nor searched
    assert loop.asked == 1 and loop.searches == [1.0]
    assert torch.allclose(loop.target, target, atol=1e-3)
    assert (missing(loop.search.refinement, loop.joint_pos, goals) < 2e-3).all()
    assert loop.velocity.abs().max() < 1e-2


def test_a_settled_target_is_refined_again_for_other_goals_only() -> None:
    start, end = torch.tensor(ROBOT.home).float()[None], draw(ROBOT, 1, 1)
    loop = Loop(start, named=end)
    goals = goals_at(loop.search.refinement, end)
    loop.step(goals)
    assert loop.search.track.read(loop.memory).settled == 0.0
    loop.step(goals, 20)
    assert loop.search.track.read(loop.memory).settled == 1.0
    loop.memory[:, : ROBOT.joint_pos_limits.shape[0]] += 1e-3  # the target, for once
    moved = loop.target
    loop.step(goals)
    assert torch.equal(loop.target, moved)
    loop.step(goals._replace(position=goals.position + 1e-5))
    assert not torch.equal(loop.target, moved)
    assert missing(loop.search.refinement, loop.target, goals).max() < 1e-4


def test_the_policy_is_asked_for_new_goals_only_and_its_answer_used_then() -> None:
    start = torch.tensor(ROBOT.home).float()[None]
    far = goals_at(Refinement(ROBOT), start)._replace(position=torch.full((1, 3, 3), 3.0))
    loop = Loop(start, named=start)
    loop.step(far)
    spread = loop.search.spread(torch.tensor([[0.0], [1.0], [2.0]]))
    assert spread.shape == (3, CANDIDATES, 8)
    assert len(spread.flatten(0, 1).unique(dim=0)) == 3 * CANDIDATES
    assert (spread <= loop.search.refinement.high).all()
    first = loop.searches
    loop.step(far, 3)
    assert (first, loop.searches) == ([1.0], [4.0])
    loop.step(far._replace(position=far.position + 0.1))
    assert loop.searches == [1.0]
    loop.step(far._replace(active=torch.tensor([[1.0, 0.0, 1.0]])))
    assert loop.searches == [1.0]


def test_goals_out_of_reach_and_inside_the_own_body_are_held_off_without_swinging() -> None:
    home = torch.tensor(ROBOT.home).float()
    loop = Loop(home.expand(3, 8))
    position = goals_at(loop.search.refinement, loop.joint_pos).position.clone()
    position[0] += torch.tensor([3.0, 0.5, 0.0])  # out of reach
    position[1] = position[1, :1]  # all effectors at one point
    position[2, 0] = 0.0  # at the base's axis
    goals = Goals(position, torch.ones(3, 3))
    loop.step(goals, 100)
    clearance, jumps, turned = [], torch.zeros(3), torch.zeros(3, 8)
    for _ in range(40):
        before, target = loop.velocity, loop.target
        loop.step(goals)
        clearance.append(loop.search.ways.own_clearance.at(loop.joint_pos).min())
        jumps += ((loop.target - target).abs() > 0.2).any(dim=1)
        turned += (before * loop.velocity < -1e-4).float()
    assert min(clearance) > ROBOT.stop_distance
    assert jumps.max() <= 1 and turned.max() <= 2 and loop.velocity.abs().max() < 0.3


def test_what_was_tried_for_long_must_be_much_better() -> None:
    """Goals that cannot be reached together are held off; the robot comes to rest for good."""
    home = torch.tensor(ROBOT.home).float()
    loop = Loop(home.expand(4, 8))
    position = goals_at(loop.search.refinement, loop.joint_pos).position.clone()
    position[:] = position[:, :1] + torch.tensor([[[0.0]], [[0.1]], [[-0.1]], [[0.2]]])
    goals = Goals(position, torch.ones(4, 3))
    loop.step(goals, 200)
    memory = loop.search.track.read(loop.memory)
    loop.memory = memory._replace(searches=memory.searches + PATIENCE[1]).flat
    loop.step(goals, 40)
    rest = loop.joint_pos.clone()
    for _ in range(60):
        loop.step(goals)
        assert (loop.joint_pos - rest).abs().max() < 0.01
    assert min(loop.searches) > PATIENCE[1]  # it goes on trying


def test_a_pose_where_bodies_are_near_is_left_for_one_that_is_clear() -> None:
    """A target may not stay as near as the robot is now, where another reaches the goals."""
    robot = load_robot("humanoid27")
    search, (low, high) = ConfigurationSearch(robot), torch.tensor(robot.joint_pos_limits).float().T
    random = torch.rand(4000, len(low), generator=torch.Generator().manual_seed(0))
    sample = low + (high - low) * random
    clearance = search.ways.own_clearance.at(sample).amin(dim=1)
    start = sample[(clearance > 0.0) & (clearance < 0.9 * robot.stop_distance)][:16]
    assert len(start) == 16
    loop, goals = Loop(start, robot=robot), goals_at(search.refinement, start)
    loop.step(goals, 150)
    reached = (missing(search.refinement, loop.joint_pos, goals) < 0.01).all(dim=1)
    clear = search.ways.own_clearance.at(loop.joint_pos).amin(dim=1) > robot.stop_distance
    assert (reached & clear).sum() >= 8, (reached, clear)


def test_joints_that_serve_no_active_effector_do_not_move() -> None:
    start, end = draw(ROBOT, 20, 2), draw(ROBOT, 20, 3)
    loop = Loop(start)
    loop.step(goals_at(loop.search.refinement, end), 10)  # all of them in motion
    moving = loop.velocity.clone()
    active = torch.tensor([[0.0, 1.0, 0.0]]).expand(20, 3)
    goals = goals_at(loop.search.refinement, end, active)
    unserved = torch.tensor(~ROBOT.action_sets[1])
    for step in range(20):  # goals that move, too
        loop.step(goals._replace(position=goals.position + 0.004 * step))
        assert (loop.velocity[:, unserved] == 0.0).all()
    assert moving[:, unserved].abs().max() > 0.1 and loop.velocity.abs().max() > 0.1
    loop.step(goals._replace(active=torch.zeros(20, 3)))
    assert (loop.velocity == 0.0).all()


@pytest.mark.parametrize(("every", "error"), [(1, 0.003), (2, 0.006), (5, 0.015)])
def test_a_moving_goal_is_followed_with_the_velocity_of_the_target(
    every: int, error: float
) -> None:
    """Goals that come in every control period, or less often."""
    start = torch.tensor(ROBOT.home).float()[None]
    loop = Loop(start)
    goals = goals_at(loop.search.refinement, start)
    step = torch.tensor([-0.1, 0.1, 0.0]) * PERIOD  # 0.14 m/s
    distances = []
    for period in range(80):
        goals = goals._replace(position=goals.position + step)
        if period % every == 0:
            sent = goals
        loop.step(sent)
        distances.append(float(missing(loop.search.refinement, loop.joint_pos, goals).max()))
    assert max(distances[50:]) < error and loop.asked <= 3
    drift = loop.search.track.read(loop.memory).drift
    assert drift.abs().max() > 0.05
    if every == 1:
        assert torch.allclose(drift, loop.velocity, atol=0.3 * float(drift.abs().max()))
    loop.step(goals, 60)  # it rests
    assert loop.search.track.read(loop.memory).drift.abs().max() < 1e-3
    assert loop.velocity.abs().max() < 1e-2


@pytest.mark.parametrize("size", [1.0, 1e3, 1e20])
def test_what_a_memory_holds_at_first_does_not_matter_for_long(size: float) -> None:
    start, end = draw(ROBOT, 10, 4), draw(ROBOT, 10, 5)
    loop = Loop(start)
    goals = goals_at(loop.search.refinement, end)
    generator = torch.Generator().manual_seed(0)
    loop.memory = size * torch.randn(loop.memory.shape, generator=generator)
    limits = torch.tensor(ROBOT.joint_vel_limits) * 1.0001
    for _ in range(300):
        loop.step(goals)
        assert (loop.velocity.abs() <= limits).all() and bool(loop.memory.isfinite().all())
    reached = (missing(loop.search.refinement, loop.joint_pos, goals) < 0.01).all(dim=1)
    assert reached.sum() >= 9 and loop.velocity[reached].abs().max() < 0.02


def test_rows_of_a_batch_do_not_depend_on_each_other() -> None:
    start, end = draw(ROBOT, 6, 6), draw(ROBOT, 6, 7)
    together, goals = Loop(start), goals_at(Refinement(ROBOT), end)
    together.step(goals, 5)
    for row in range(6):
        alone = Loop(start[row : row + 1])
        alone.step(goals.map(lambda part, row=row: part[row : row + 1]), 5)
        assert torch.allclose(alone.velocity, together.velocity[row : row + 1], atol=1e-3)


def boxes(*rows: tuple[list[float], list[float], float]) -> Tensor:
    """Upright rounded boxes (1, 8, 11): middle, half sides and radius [m]."""
    obstacles = NOTHING.clone()
    for number, (place, half, radius) in enumerate(rows):
        obstacles[0, number] = torch.tensor([*place, 0.0, 0.0, 0.0, 1.0, *half, radius])
    return obstacles


def test_an_obstacle_in_the_straight_way_is_gone_around() -> None:
    home = torch.tensor(ROBOT.home).float()[None]
    end = home.clone()
    start = home.clone()
    start[0, 0], end[0, 0] = home[0, 0] - 0.7, home[0, 0] + 0.7
    search = ConfigurationSearch(ROBOT)
    goals = goals_at(search.refinement, end)
    # a post where the middle hand is half way, near the ends of the links
    middle = search.kinematics.effectors_of(search.kinematics.frames_at(home))[0, 1]
    obstacles = boxes((middle.tolist(), [0.03, 0.03, 0.2], 0.01))
    loop, least = Loop(start, named=end, obstacles=obstacles), 1.0
    blind = Loop(start, named=end)
    for _ in range(400):
        loop.step(goals)
        least = min(least, float(nearest(loop)))
    blind.step(goals, 60)
    assert (missing(search.refinement, blind.joint_pos, goals) < 1e-2).all()  # straight there
    assert (missing(search.refinement, loop.joint_pos, goals) < 1e-2).all()
    assert least > ROBOT.stop_distance


def test_a_way_by_another_configuration_is_kept_while_straight_ways_are_searched() -> None:
    """Searches for straight ways and for others take turns, and only the latter look at both pieces
    of a way.
    """
    start, end = draw(ROBOT, 12, 8), draw(ROBOT, 12, 9)
    middle = goals_at(Refinement(ROBOT), (start + end) / 2).position[:, 1]
    longest = []
    for row in range(12):
        post = boxes((middle[row].tolist(), [0.06, 0.06, 0.2], 0.01))
        loop = Loop(start[row : row + 1], obstacles=post)
        goals = goals_at(loop.search.refinement, end[row : row + 1])
        runs, last = [0], loop.joint_pos
        for _ in range(60):
            loop.step(goals)
            memory = loop.search.track.read(loop.memory)
            bent = bool((memory.via != memory.target).any())
            runs.append(runs[-1] + 1 if bent and torch.equal(memory.via, last) else 0)
            last = memory.via
        longest.append(max(runs))
    assert np.median(longest) > 15, longest


def nearest(loop: Loop) -> Tensor:
    """Distance of the robot's spheres from the obstacles, (B,) [m]."""
    frames = loop.search.kinematics.frames_at(loop.joint_pos.repeat_interleave(2, dim=0))
    clearance = loop.search.ways.obstacle_clearance
    here = clearance.on_ways(frames, loop.obstacles, 1, 2).here
    return here.flatten(1).amin(dim=1)


def test_without_a_way_the_robot_waits_before_an_obstacle_and_goes_on_when_it_is_gone() -> None:
    start = torch.tensor(ROBOT.home).float()[None]
    end = start.clone()
    end[0, 0] += 0.5
    goals = goals_at(Refinement(ROBOT), end)
    # the goal of the first hand is inside it
    inside = boxes((goals.position[0, 0].tolist(), [0.05, 0.05, 0.2], 0.0))
    loop = Loop(start, named=end, obstacles=inside)
    loop.step(goals, 300)
    before = loop.joint_pos.clone()
    loop.step(goals, 50)
    assert nearest(loop) > ROBOT.stop_distance
    assert (missing(loop.search.refinement, loop.joint_pos, goals)[0, 0]) > 0.05
    loop.obstacles = read_obstacles(NOTHING)
    loop.step(goals, 200)
    assert (missing(loop.search.refinement, loop.joint_pos, goals) < 1e-2).all()
    assert before.isfinite().all()
