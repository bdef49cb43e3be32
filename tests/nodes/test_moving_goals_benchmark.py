"""benchmarks/moving_goals.py in small."""

import numpy as np

from benchmarks.moving_goals import CAUSES, Followed, causes, follow_all, poses, stream
from polyreach.deploy.goal_sets import moving_configurations
from polyreach_description import Robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.policy import Policy


def test_goals_on_a_path_are_those_of_its_configurations(planar8: Robot) -> None:
    path = planar8.home + np.outer(np.arange(200), np.full(8, 1e-3))
    positions, _ = poses(planar8, path, np.array([0.5, 1.01]))
    for found, tick in zip(positions, (25.0, 50.5), strict=True):
        expected = planar8.forward_kinematics(planar8.home + 1e-3 * tick)
        assert np.linalg.norm(found - expected) < 1e-9
    goals = stream(planar8, path, 10.0, 0.0, 0)
    assert (np.diff(goals.times_s) >= 0.0).all()
    assert len(goals.times_s) == len(goals.positions) == 40


def test_predicted_goals_are_followed_more_closely(planar8: Robot) -> None:
    policy = Policy.load(find_policy("planar8"), planar8)
    path = moving_configurations(planar8, planar8.home[None], 0.2, 4.0, 5)
    sent, predicted = (follow_all(planar8, policy, path, 10.0, p) for p in (False, True))
    assert np.median(sent.distances) > 0.01
    assert np.median(predicted.distances) < 0.005
    assert predicted.acceleration < sent.acceleration
    assert predicted.causes.shape == (len(predicted.distances), len(CAUSES))
    assert not predicted.causes[:, 1].any(), "no joint of planar8 comes to a position limit"


def test_causes_are_counted_among_large_errors(planar8: Robot) -> None:
    distances = np.array([0.006, 0.001, 0.009, 0.003])
    found = np.zeros((4, len(CAUSES)), dtype=bool)
    found[:3, 0] = found[2, 3] = True
    row = causes(planar8, 50.0, Followed(distances, np.zeros(4), 0.0, found))
    assert row == "| planar8 | 50 | 50% | 100% | 0% | 0% | 50% | 25%: 3.0 / 3.0 |"
