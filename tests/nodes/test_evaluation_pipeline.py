"""Evaluations through the controller compute what the controller does."""

from types import SimpleNamespace

import numpy as np

from polyreach.commands.pipeline import controller_pipeline
from polyreach.deploy.controllers import LeastSquaresController
from polyreach.deploy.evaluate import Evaluation
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach_description import load_robot
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.command_pipeline import CommandPipeline
from polyreach_nodes.control.goals import Goals


def test_the_commands_are_those_of_the_pipeline() -> None:
    """On ways to configurations of which many are in self-collision."""
    robot = load_robot("humanoid27")
    rng = np.random.default_rng(0)
    joint_pos = robot.sample_configuration(rng, 20)
    low, high = robot.joint_pos_limits.T
    wanted = 4.0 * (rng.uniform(low, high, joint_pos.shape) - joint_pos)
    condition = controller_pipeline(robot)
    assert condition is not None
    pipelines = []
    for row in wanted:
        output = PolicyOutputs(joint_vel=row, effector_pos=np.zeros((2, 3)))
        policy = SimpleNamespace(compute=lambda _, output=output: output)
        pipelines.append(CommandPipeline(robot, policy))
    goals = Goals(robot, pipelines[0].proximity, pipelines[0].progress)
    for name in robot.effector_names:
        assert goals.set(name, "", (0.1, 0.1, 0.1), 0.0) == ""
    command, slowed = np.zeros(wanted.shape), False
    position = joint_pos.copy()
    for _ in range(40):
        inputs = PolicyInputs(position, np.zeros((20, 2, 3)), np.ones((20, 2)), command)
        command = condition(wanted, inputs)
        period_s = 1.0 / robot.control_rate
        expected = [
            pipeline.step(row, goals, period_s)
            for pipeline, row in zip(pipelines, position, strict=True)
        ]
        assert (command == np.array(expected)).all()
        slowed |= any(pipeline.slowed < 1.0 for pipeline in pipelines)
        position = np.clip(position + command * period_s, low, high)
    assert slowed


def test_deadlocks_near_the_own_body_count_as_failures() -> None:
    robot = load_robot("humanoid27")
    config = EvaluationConfig(goals=60, seconds=3.0, controlled=60, seed=5)
    evaluation = Evaluation(robot, config, controller_pipeline(robot))
    controller = LeastSquaresController(robot)
    free = evaluation.measure(controller)
    controlled = evaluation.measure_controlled(controller)["pipeline"]
    assert free["near_self"] > 0.0 and controlled["near_self"] == 0.0
    assert controlled["success_all"]["0.02"] < free["success_all"]["0.02"]
