"""Soft Modularization: routing and modules against loops, the weights of the losses by hand."""

import math
from typing import Any

import pytest
import torch
from task_fakes import make, step_plainly, weights
from torch import Tensor

from polyreach.errors import UserError
from polyreach.methods.soft_modularization import (
    ModularNetwork,
    SoftModularization,
    SoftModularizationConfig,
)

T, N = 3, 2
TINY: dict[str, Any] = {"embedding": 8, "modules": N, "width": 6}


def config_of(layers: int, modules: int = N) -> SoftModularizationConfig:
    return SoftModularizationConfig(
        hidden=(7,), embedding=8, layers=layers, modules=modules, width=6
    )


def apply(layer: Any, member: int, x: Tensor) -> Tensor:
    return x @ layer.weight[member, 0] + layer.bias[member, 0, 0]


def route_and_run(
    net: Any, member: int, task: int, x: Tensor, n: int
) -> tuple[Tensor, list[Tensor]]:
    """One sample, from equations 3 to 7: the output, and the routing p_hat[i, j] of each layer."""
    f = apply(net.state_embedding[1], member, apply(net.state_embedding[0], member, x).relu())
    h = apply(net.task_embedding, member, torch.eye(T)[task])
    g = [apply(net.layers[0], member * n + j, f.relu()).relu() for j in range(n)]
    routing = []
    p = apply(net.routing[0], member, (f * h).relu())
    for layer in range(1, len(net.layers)):
        p_hat = torch.zeros(n, n)
        for i in range(n):
            total = sum(math.exp(p[i * n + j]) for j in range(n))
            for j in range(n):
                p_hat[i, j] = math.exp(p[i * n + j]) / total
        routing.append(p_hat)
        g = [
            apply(
                net.layers[layer],
                member * n + i,
                torch.stack([p_hat[i, j] * g[j] for j in range(n)]).sum(dim=0),
            ).relu()
            for i in range(n)
        ]
        if layer + 1 < len(net.layers):
            u = apply(net.expand_routing[layer - 1], member, p)
            p = apply(net.routing[layer], member, (u * f * h).relu())
    return apply(net.head, member, torch.cat(g)), routing


@pytest.mark.parametrize(("layers", "modules"), [(2, 2), (3, 2), (4, 4)])
@torch.no_grad()
def test_the_network_is_its_equations(layers: int, modules: int) -> None:
    torch.manual_seed(layers)
    net = ModularNetwork(2, T, 4, 3, config_of(layers, modules))
    for parameter in net.parameters():
        parameter.mul_(2)
    x = torch.randn(2, T, 5, 4)
    actual = net(x)
    assert actual.shape == (2, T, 5, 3)
    uneven = 0.0
    for member in range(2):
        for task in range(T):
            for sample in range(5):
                expected, routing = route_and_run(
                    net, member, task, x[member, task, sample], modules
                )
                assert torch.allclose(actual[member, task, sample], expected, atol=1e-5)
                assert len(routing) == layers - 1
                for p_hat in routing:
                    assert torch.allclose(p_hat.sum(dim=1), torch.ones(modules))
                    uneven = max(uneven, float((p_hat - 1 / modules).abs().max()))
    assert uneven > 0.05


@torch.no_grad()
def test_routing_by_hand() -> None:
    # f(s) = s, h(z) = (1, 0) for task 0 and (0, 1) for task 1; modules pass on 1 and 10 times their
    # input, then add up
    config = SoftModularizationConfig(hidden=(2,), embedding=2, layers=2, modules=2, width=2)
    net: Any = ModularNetwork(1, 2, 2, 1, config)
    for parameter in net.parameters():
        parameter.zero_()
    one = torch.eye(2)
    for layer in (*net.state_embedding, net.task_embedding):
        layer.weight[0, 0] = one
    net.layers[0].weight[:, 0] = torch.stack([one, 10 * one])
    net.layers[1].weight[:, 0] = torch.stack([one, one])
    # logits p = (p_11, p_12, p_21, p_22): module 1 turns to module 1 with s_1 in task 0, module 2
    # to module 2 with s_2 in task 1
    net.routing[0].weight[0, 0] = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    net.head.weight[0, 0] = torch.tensor([[1.0], [0.0], [0.0], [100.0]])
    s1, s2 = math.log(3), math.log(4)
    x = torch.tensor([s1, s2]).expand(1, 2, 1, 2)
    # task 0: p_hat = ((3/4, 1/4), (1/2, 1/2)): 3/4 s + 1/4 10 s = 3.25 s and 5.5 s
    # task 1: p_hat = ((1/2, 1/2), (1/5, 4/5)): 5.5 s and 8.2 s; out = g_1's s_1 + 100 g_2's s_2
    expected = [3.25 * s1 + 100 * 5.5 * s2, 5.5 * s1 + 100 * 8.2 * s2]
    assert net(x).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_losses_are_weighted_by_the_temperatures() -> None:
    learner = make(SoftModularization, SoftModularizationConfig(**TINY), grad_clip=1e6)
    learner.alpha.log_alpha.data = torch.tensor([[0.5], [1.0], [2.0]]).log()
    optimizer = step_plainly(learner.actor.parameters())
    obs = torch.randn(3, 5, 2)

    def losses() -> Tensor:
        return (learner.actor.mean_action(obs) - 0.5).square().mean(dim=(1, 2))

    total = sum(math.exp(-alpha) for alpha in (0.5, 1.0, 2.0))
    weight = torch.tensor([math.exp(-alpha) / total for alpha in (0.5, 1.0, 2.0)])
    assert float(weight.sum()) == pytest.approx(1.0)
    parameters = list(learner.actor.parameters())
    expected = torch.autograd.grad((weight * losses()).sum(), parameters)
    before = weights(learner.actor)
    learner.descend(optimizer, learner.actor, losses())
    for old, gradient, new in zip(before, expected, parameters, strict=True):
        assert torch.allclose(old - gradient, new, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3


def test_equal_temperatures_weigh_all_tasks_alike() -> None:
    learner = make(SoftModularization, SoftModularizationConfig(**TINY), grad_clip=1e6)
    loss = learner.actor.mean_action(torch.randn(3, 5, 2)).square().mean(dim=(1, 2))
    parameters = list(learner.actor.parameters())
    expected = torch.autograd.grad(loss.mean(), parameters, retain_graph=True)
    before = weights(learner.actor)
    learner.descend(step_plainly(parameters), learner.actor, loss)
    for old, gradient, new in zip(before, expected, parameters, strict=True):
        assert torch.allclose(old - gradient, new, atol=1e-6)


def test_all_weights_are_learned_from_all_tasks() -> None:
    learner = make(SoftModularization, SoftModularizationConfig(layers=4, **TINY))
    loss = learner.actor.mean_action(torch.randn(3, 40, 2)).square().sum()
    gradients = torch.autograd.grad(loss, list(learner.actor.parameters()))
    assert all(bool(gradient.any()) for gradient in gradients)


def test_its_defaults_are_the_deep_version() -> None:
    config = SoftModularizationConfig()
    assert (config.layers, config.modules, config.width) == (4, 4, 128)


@pytest.mark.parametrize(
    ("name", "least"), [("embedding", 1), ("layers", 2), ("modules", 1), ("width", 1)]
)
def test_illegal_settings(name: str, least: int) -> None:
    # one layer of modules has no routing, so nothing would depend on the task
    with pytest.raises(UserError, match=f"{name} is {least - 1}, but must be at least {least}"):
        SoftModularizationConfig(**dict[str, Any]({name: least - 1}))
