"""A2C against stable-baselines3's on the same rollout."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C as PeerA2C
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from task_fakes import PointMasses
from test_a2c import learner_of, made_up_rollout

from polyreach.methods.a2c import A2C
from polyreach.storage.rollout import Rollout


def peer_of(learner: A2C, rollout: Rollout) -> Any:
    """stable-baselines3's A2C with the weights of a learner of one task, and the rollout in its
    buffer.
    """

    class Still(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

        def reset(self, **options: Any) -> Any:
            return np.zeros(2, dtype=np.float32), {}

    config, (steps, _, count) = learner.config, rollout.reward.shape
    peer = PeerA2C(
        "MlpPolicy",
        DummyVecEnv([Still] * count),
        n_steps=steps,
        gamma=config.gamma,
        ent_coef=config.entropy_weight,
        vf_coef=config.value_weight,
        max_grad_norm=1e9,
        policy_kwargs={
            "net_arch": {"pi": [8, 8], "vf": [8, 8]},
            "activation_fn": torch.nn.Tanh,
        },
        device="cpu",
    )
    peer.set_logger(Logger(folder=None, output_formats=[]))
    with torch.no_grad():
        for net, linears in zip(learner.nets, linears_of(peer), strict=True):
            *layers, _ = net.layers(net.weights())
            for index, linear in enumerate(linears):
                size = linear.out_features
                linear.weight.copy_(layers[2 * index][0, :, :size].T)
                linear.bias.copy_(layers[2 * index + 1][0, 0, :size])
        peer.policy.log_std.copy_(
            0.5 * learner.actor.net.layers(learner.actor.net.weights())[5][0, 0, 2:]
        )
    buffer = peer.rollout_buffer
    start = np.zeros(count, dtype=np.float32)
    for step in range(steps):
        obs = rollout.obs[step, 0]
        value, log_prob, _ = peer.policy.evaluate_actions(obs, rollout.action[step, 0])
        buffer.add(
            obs.numpy(),
            rollout.action[step, 0].numpy(),
            rollout.reward[step, 0].numpy(),
            start,
            value.detach(),
            log_prob.detach(),
        )
        start = rollout.terminated[step, 0].float().numpy()
    with torch.no_grad():
        last = peer.policy.predict_values(rollout.next_obs[-1, 0])
    buffer.compute_returns_and_advantage(last, start)
    return peer


def linears_of(peer: Any) -> list[list[torch.nn.Linear]]:
    policy = peer.policy
    return [
        [layer for layer in body if isinstance(layer, torch.nn.Linear)] + [head]
        for body, head in (
            (policy.mlp_extractor.policy_net, policy.action_net),
            (policy.mlp_extractor.value_net, policy.value_net),
        )
    ]


def test_an_update_is_that_of_stable_baselines3() -> None:
    """The same rollout and weights: losses and the gradient of every weight to 1e-5. There the
    standard deviation does not depend on the state, so here its weights are zero.
    """
    learner = learner_of(PointMasses(1, 4), sharing="none", entropy_weight=0.1, grad_clip=1e9)
    net = learner.actor.net
    *layers, _ = net.layers(net.own.data)
    layers[4][..., 2:] = 0.0  # views of the weights
    # there a time limit is a reward
    rollout = made_up_rollout(1, limits=False)
    peer = peer_of(learner, rollout)
    actual = learner.update_on(rollout, [0]).tolist()
    peer.train()
    logged = peer.logger.name_to_value
    assert actual[0] == pytest.approx(float(logged["train/policy_loss"]), abs=1e-5)
    assert actual[1] == pytest.approx(float(logged["train/value_loss"]), rel=1e-5)
    assert actual[2] == pytest.approx(-float(logged["train/entropy_loss"]), abs=1e-5)
    networks = zip(learner.per_task, learner.nets, linears_of(peer), strict=True)
    for weights, network, linears in networks:
        gradient = weights[0].grad
        assert gradient is not None
        *parts, _ = network.layers(gradient[None])
        for index, linear in enumerate(linears):
            size = linear.out_features
            weight, bias = parts[2 * index][0, :, :size].T, parts[2 * index + 1][0, 0, :size]
            assert linear.weight.grad is not None and linear.bias.grad is not None
            assert torch.allclose(weight, linear.weight.grad, rtol=0, atol=1e-5)
            assert torch.allclose(bias, linear.bias.grad, rtol=0, atol=1e-5)
            assert float(linear.weight.grad.abs().max()) > 1e-3
    gradient = learner.per_task[0][0].grad
    assert gradient is not None
    # log std = log variance / 2
    by_log_var = net.layers(gradient[None])[5][0, 0, 2:]
    assert torch.allclose(2 * by_log_var, peer.policy.log_std.grad, rtol=0, atol=1e-5)
