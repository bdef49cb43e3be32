"""An update of PPO against stable-baselines3's."""

import math
from typing import Any

import pytest
import torch
from task_fakes import PointMasses
from torch import Tensor

from polyreach.methods.ppo import PPO, Batch, PPOConfig
from polyreach.networks.gaussian import normal_log_prob


def made_up_batch(
    tasks: int, count: int, inputs: int = 2, actions: int = 2, seed: int = 0
) -> Batch:
    """`count` made-up steps of each task, of a policy of another time."""
    draw = torch.Generator().manual_seed(seed)
    x, next_x = torch.randn(2, tasks, count, inputs, generator=draw)
    action = torch.randn(tasks, count, actions, generator=draw)
    log_std = torch.full((actions,), math.log(0.8))
    noise = 0.3 * torch.randn(tasks, count, generator=draw)
    log_prob = normal_log_prob(action, torch.zeros_like(action), log_std) + noise
    advantage, target = torch.randn(2, tasks, count, generator=draw)
    return Batch(x, next_x, action, log_prob, advantage, target)


def peer_of(learner: PPO, batch: Batch) -> Any:
    """PPO of stable-baselines3 with the learner's weights, about to learn from one minibatch: all
    tasks' steps together.
    """
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    import gymnasium
    import numpy as np
    from stable_baselines3 import PPO as PeerPPO
    from stable_baselines3.common.logger import Logger

    config, count = learner.config, batch.log_prob.numel()

    class Still(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, batch.x.shape[2:], np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, batch.action.shape[2:], np.float32)

    widths = list(config.hidden)
    peer = PeerPPO(
        "MlpPolicy",
        Still(),
        learning_rate=config.lr,
        n_steps=count,
        batch_size=count,
        n_epochs=1,
        clip_range=config.clip,
        normalize_advantage=False,
        ent_coef=config.entropy_weight,
        vf_coef=config.value_weight,
        max_grad_norm=1e9,
        policy_kwargs={"net_arch": {"pi": widths, "vf": widths}, "activation_fn": torch.nn.Tanh},
        device="cpu",
    )
    logger = Logger(folder=None, output_formats=[])
    peer.set_logger(logger)
    with torch.no_grad():
        for net, weights in zip(learner.nets, weights_of(peer), strict=True):
            *layers, extra = net.layers(net.weights())
            for weight, layer in zip(weights, layers, strict=False):
                weight.copy_(layer[0].T if weight.ndim == 2 else layer[0, 0])
            if extra.numel():
                weights[-1].copy_(extra[0])
    buffer: Any = peer.rollout_buffer
    for name, rows in (
        ("observations", batch.x),
        ("actions", batch.action),
        ("log_probs", batch.log_prob),
        ("advantages", batch.advantage),
        ("returns", batch.target),
    ):
        getattr(buffer, name)[:] = rows.flatten(0, 1)[:, None].numpy()
    buffer.full = True
    return peer


def weights_of(peer: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the peer's policy and value function, in the order of theta."""
    policy = peer.policy
    actual = []
    for body, head in (
        (policy.mlp_extractor.policy_net, policy.action_net),
        (policy.mlp_extractor.value_net, policy.value_net),
    ):
        linear = [layer for layer in body if isinstance(layer, torch.nn.Linear)] + [head]
        actual.append([part for layer in linear for part in (layer.weight, layer.bias)])
    actual[0].append(policy.log_std)
    return actual[0], actual[1]


def as_theta(parts: list[Tensor]) -> Tensor:
    """The peer's weights (out, in), biases and standard deviations as theta (P,)."""
    return torch.cat([part.detach().reshape(len(part), -1).T.flatten() for part in parts])


@pytest.mark.parametrize(
    ("tasks", "changes"),
    [
        (1, {"hidden": (64, 64, 64)}),
        (1, {"hidden": (64, 64, 64), "clip": 0.05, "value_weight": 2.0, "entropy_weight": 0.1}),
        (3, {"hidden": (64, 64, 64), "entropy_weight": 0.01}),
    ],
)
def test_an_update_is_that_of_stable_baselines3(tasks: int, changes: dict[str, Any]) -> None:
    """The same minibatch and weights: losses, the gradient of every weight, and every weight after
    a step of Adam, to 1e-5. All tasks share all weights, so that their mean is the mean of all.
    """
    learner = PPO(PPOConfig(initial_std=0.8, **changes), PointMasses(tasks), 10_000, 0)
    # away from the start, where means are nearly zero
    for net in learner.nets:
        net.shared.data += 0.05 * torch.randn(net.shared.shape)
    batch = made_up_batch(tasks, 64)
    peer = peer_of(learner, batch)
    start = [net.shared.detach().clone() for net in learner.nets]
    for net, parts in zip(learner.nets, weights_of(peer), strict=True):
        assert torch.equal(net.shared, as_theta(parts))
    policy_loss, value_loss, entropy = learner.update_on(batch).tolist()
    peer.train()
    logged = peer.logger.name_to_value
    assert policy_loss == pytest.approx(float(logged["train/policy_gradient_loss"]), abs=1e-5)
    assert value_loss == pytest.approx(float(logged["train/value_loss"]), abs=1e-5)
    assert entropy == pytest.approx(-float(logged["train/entropy_loss"]), abs=1e-5)
    # some ratios are clipped and others are not
    assert 0.05 < float(logged["train/clip_fraction"]) < 0.95
    for net, old, parts in zip(learner.nets, start, weights_of(peer), strict=True):
        gradients = [part.grad for part in parts]
        assert all(gradient is not None for gradient in gradients)
        expected = as_theta([gradient for gradient in gradients if gradient is not None])
        assert net.shared.grad is not None
        assert torch.allclose(net.shared.grad, expected, rtol=0, atol=1e-5)
        assert float(expected.abs().max()) > 0.02
        assert torch.allclose(net.shared, as_theta(parts), rtol=0, atol=1e-5)
        # Adam's first step is the learning rate where the gradient is not tiny
        assert float((net.shared - old).detach().abs().max()) == pytest.approx(
            learner.config.lr, rel=1e-2
        )
