"""Shared and per-task weights and the running normalisation, against arithmetic."""

import math
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from task_fakes import assert_same
from torch import Tensor, nn

from polyreach.networks.per_task_weights import LEAST_STD, Normalizer, SplitActor, SplitMLP

WIDTHS = (4, 6, 5, 2)


def scattered(net: SplitMLP, seed: int = 0) -> SplitMLP:
    """`net` with a third of its weights split and new random values for all."""
    draw = torch.Generator().manual_seed(seed)
    net.split = torch.rand(net.split.shape, generator=draw) < 1 / 3
    net.find_trunk()
    net.shared.data = torch.randn(net.shared.shape, generator=draw)
    net.own.data = torch.randn(net.own.shape, generator=draw)
    return net


def output(net: SplitMLP, x: Tensor) -> Tensor:
    """(T, B, in) -> (T, B, out)."""
    return net.run(net.layers(net.weights()), x)


def set_gradients(net: SplitMLP, g: Tensor) -> None:
    """From g_i (T, P)."""
    net.find_trunk()
    net.set_gradients(g[:, : net.trunk].sum(dim=0, keepdim=True), g[:, net.trunk :])


def test_the_perceptron_by_hand() -> None:
    net = SplitMLP(2, (1, 1, 1), extra=(7.0,))
    net.split[2] = True
    net.shared.data = torch.tensor([0.5, -1.0, 99.0, 0.25, 7.0])
    net.own.data[:, 2] = torch.tensor([2.0, -3.0])
    actual = output(net, torch.tensor([[[4.0]], [[6.0]]])).flatten().tolist()
    # tanh(0.5 x - 1), times the task's own weight, plus 0.25
    assert actual == pytest.approx([2 * math.tanh(1.0) + 0.25, -3 * math.tanh(2.0) + 0.25])
    assert net.layers(net.weights())[-1].tolist() == [[7.0], [7.0]]


def test_a_task_uses_the_shared_weights_and_its_own() -> None:
    net = scattered(SplitMLP(3, WIDTHS))
    x = torch.randn(3, 7, 4)
    theta, actual = net.weights(), output(net, x)
    for task in range(3):
        assert torch.equal(theta[task][net.split], net.own[task][net.split])
        assert torch.equal(theta[task][~net.split], net.shared[~net.split])
        layers: list[nn.Module] = []
        rest = theta[task].detach()
        for before, after in pairwise(WIDTHS):
            linear = nn.Linear(before, after)
            weight, bias, rest = rest.split(
                [before * after, after, len(rest) - (before + 1) * after]
            )
            linear.weight.data, linear.bias.data = weight.view(before, after).T, bias
            layers += [linear, nn.Tanh()]
        expected = nn.Sequential(*layers[:-1])(x[task])
        assert len(rest) == 0
        assert torch.allclose(actual[task], expected, atol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_weights_start_with_the_norms_of_their_gains(gain: float) -> None:
    torch.manual_seed(0)
    net = SplitMLP(2, WIDTHS, extra=(-1.0, 0.5), last_gain=0.01, hidden_gain=gain)
    *parts, extra = net.layers(net.weights())
    assert extra.tolist() == [[-1.0, 0.5]] * 2
    for weight, norm in zip(parts[::2], (gain, gain, 0.01), strict=True):
        assert torch.allclose(weight.norm(dim=1), torch.tensor(norm), rtol=1e-5)
    for bias in parts[1::2]:
        assert not bias.any()
    assert not net.split.any()
    # 4 6 + 6, 6 5 + 5, 5 2 + 2, and 2
    assert net.shared.shape == (30 + 35 + 12 + 2,)


def test_gradients_of_shared_and_own_weights() -> None:
    net = SplitMLP(3, (1, 1))
    net.split[1] = True
    set_gradients(net, torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]))
    assert net.shared.grad is not None and net.own.grad is not None
    assert net.shared.grad.tolist() == [3.0, 0.0]
    assert net.own.grad.tolist() == [[0.0, 10.0], [0.0, 20.0], [0.0, 60.0]]


def test_gradients_are_those_of_the_chain_rule() -> None:
    net, x = scattered(SplitMLP(3, WIDTHS)), torch.randn(3, 7, 4)
    loss = output(net, x).square().mean(dim=(1, 2)).sum()
    shared, own = torch.autograd.grad(loss, [net.shared, net.own])
    theta = net.weights().detach().requires_grad_()
    loss = net.run(net.layers(theta), x).square().mean(dim=(1, 2)).sum()
    set_gradients(net, torch.autograd.grad(loss, theta)[0])
    actual = (net.shared.grad, net.own.grad)
    # the loss of a shared weight is the mean over tasks, that of an own one its task's
    assert actual[0] is not None and torch.allclose(actual[0], shared / 3, atol=1e-6)
    assert actual[1] is not None and torch.allclose(actual[1], own, atol=1e-6)
    assert float(shared.abs().max()) > 0.1 and float(own.abs().max()) > 0.1


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_one_row_for_the_trunk_changes_no_output_and_no_gradient(layers: int) -> None:
    torch.manual_seed(0)
    net, x = SplitMLP(3, WIDTHS, extra=(0.5,)), torch.randn(3, 7, 4)
    if layers:
        net.split_at_start(net.last_layers(layers))
    assert net.trunk == (sum(net.sizes[:-1]), 30 + 35, 30, 0)[layers]
    blocks = [block.detach().requires_grad_() for block in net.blocks()]
    assert [len(block) for block in blocks] == [1, 3]
    out, *_, extra = net.run(net.layers((blocks[0], blocks[1])), x), *net.layers(tuple(blocks))
    theta = net.weights().detach().requires_grad_()
    assert torch.allclose(out, net.run(net.layers(theta), x), atol=1e-6)
    assert extra.shape == (3, 1)
    loss = out.square().mean(dim=(1, 2)).sum() + extra.square().sum()
    net.set_gradients(*torch.autograd.grad(loss, blocks, materialize_grads=True))
    found = [parameter.grad for parameter in (net.shared, net.own)]
    out, extra = net.run(net.layers(theta), x), net.layers(theta)[-1]
    loss = out.square().mean(dim=(1, 2)).sum() + extra.square().sum()
    g = torch.autograd.grad(loss, theta)[0]
    # g_i of its task for a copy, the mean over tasks for a shared weight
    for grad, expected in zip(found, (g.mean(dim=0) * ~net.split, g * net.split), strict=True):
        if grad is None:
            assert layers == 0 and not expected.any()
        else:
            assert torch.allclose(grad, expected, atol=1e-6)
    assert torch.equal(net.blocks(torch.tensor([2]))[1][0], net.blocks()[1][2])
    loaded = SplitMLP(3, WIDTHS, extra=(0.5,))
    loaded.load_state_dict(net.state_dict())
    assert loaded.trunk == net.trunk


def trained(net: SplitMLP, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """One descent step along made-up gradients."""
    draw = torch.Generator().manual_seed(seed)
    set_gradients(net, torch.randn(net.own.shape, generator=draw))
    optimizer.step()


def test_a_copy_starts_with_the_value_and_moments_of_its_weight() -> None:
    torch.manual_seed(0)
    net = SplitMLP(3, WIDTHS, extra=(0.0,))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=True)
    for seed in range(3):
        trained(net, optimizer, seed)
    x = torch.randn(3, 7, 4)
    before, theta = output(net, x), net.weights().detach().clone()
    chosen = torch.arange(len(net.split)) % 3 == 1
    net.split_weights(chosen, optimizer)
    assert torch.equal(net.split, chosen)
    assert torch.equal(output(net, x), before) and torch.equal(net.weights(), theta)
    for name in ("exp_avg", "exp_avg_sq"):
        of_shared, of_own = (optimizer.state[p][name] for p in (net.shared, net.own))
        assert torch.equal(of_own[:, chosen], of_shared[chosen].expand(3, -1))
        assert float(of_shared[chosen].abs().min()) > 0
        assert not of_own[:, ~chosen].any()
    # where all tasks agree, a copy moves exactly as the shared weight would have
    twin = SplitMLP(3, WIDTHS, extra=(0.0,))
    twin.load_state_dict(net.state_dict())
    twin.split[:] = False
    other = torch.optim.Adam(twin.parameters(), lr=0.1, fused=True)
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    same = torch.randn(len(net.split)).expand(3, -1)
    for one, its in ((net, optimizer), (twin, other)):
        set_gradients(one, same)
        its.step()
    assert torch.allclose(net.weights(), twin.weights(), rtol=0, atol=1e-6)
    assert float((net.weights() - theta).detach().abs().min()) > 1e-4


def test_a_second_split_leaves_the_first_alone() -> None:
    net = SplitMLP(2, WIDTHS)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    first = torch.zeros_like(net.split)
    first[:10] = True
    net.split_weights(first, optimizer)
    for seed in range(3):
        trained(net, optimizer, seed)
    theta = net.weights().detach().clone()
    moments = [optimizer.state[net.own][name].clone() for name in ("exp_avg", "exp_avg_sq")]
    assert not torch.equal(theta[0, :10], theta[1, :10])
    net.split_weights(torch.ones_like(first), optimizer)
    assert net.split.all() and torch.equal(net.weights(), theta)
    for name, old in zip(("exp_avg", "exp_avg_sq"), moments, strict=True):
        assert torch.equal(optimizer.state[net.own][name][:, :10], old[:, :10])


def test_shared_weights_stay_equal_and_per_task_weights_diverge() -> None:
    net = SplitMLP(3, WIDTHS)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    chosen = torch.arange(len(net.split)) % 4 == 0
    for seed in range(6):
        if seed == 2:
            net.split_weights(chosen, optimizer)
        trained(net, optimizer, seed)
    theta = net.weights()
    assert torch.equal(theta[:, ~chosen], theta[:1, ~chosen].expand(3, -1))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (theta[one] != theta[other])[chosen].all()


def test_the_last_layers_are_trained() -> None:
    # 4 6 + 6, 6 5 + 5, 5 2 + 2, and 1
    net = SplitMLP(2, WIDTHS, extra=(0.0,))
    for count, first in ((0, 77), (1, 65), (2, 30), (3, 0), (4, 0)):
        chosen = net.last_layers(count)
        assert not chosen[:first].any() and chosen[first:].all()


def test_per_task_weights_can_be_drawn_anew() -> None:
    net = SplitMLP(3, WIDTHS, extra=(-1.0,), last_gain=0.01)
    chosen = net.last_layers(2)
    net.split_at_start(chosen)
    assert torch.equal(net.split, chosen)
    theta = net.weights()
    assert torch.equal(theta[:, ~chosen], net.shared[~chosen].expand(3, -1))
    weights, other = (net.layers(theta)[layer] for layer in (2, 4))
    assert torch.allclose(weights.norm(dim=1), torch.ones(3, 5))
    assert torch.allclose(other.norm(dim=1), torch.tensor(0.01))
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (weights[one] != weights[two]).all()
    assert net.layers(theta)[-1].tolist() == [[-1.0]] * 3


def test_weights_of_some_tasks() -> None:
    net = scattered(SplitMLP(3, WIDTHS))
    listed = torch.tensor([2, 0])
    assert torch.equal(net.weights(listed), net.weights()[listed])


def test_sizes_of_the_parts_of_theta() -> None:
    net = SplitMLP(1, WIDTHS, extra=(0.0,))
    assert net.sizes == [24, 6, 30, 5, 10, 2, 1] and sum(net.sizes) == len(net.shared)


def test_statistics_include_all_observations() -> None:
    normalizer = Normalizer(3)
    draw = np.random.default_rng(0)
    seen = []
    # far from zero, where sums of squares in 32 bits would lose the variance
    for size in (1, 5, 40, 7):
        seen.append(draw.normal([0.0, 1e4, -3.0], [1.0, 0.5, 20.0], (size, 2, 3)))
        normalizer.update(torch.tensor(seen[-1], dtype=torch.float32))
    rows = np.concatenate([part.astype(np.float32).reshape(-1, 3) for part in seen]).astype(float)
    assert float(normalizer.count) == len(rows) == 106
    np.testing.assert_allclose(normalizer.mean.numpy(), rows.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(normalizer.var.numpy(), rows.var(axis=0), rtol=1e-7)
    x = torch.tensor(rows[:4], dtype=torch.float32)
    expected = (rows[:4] - rows.mean(axis=0)) / rows.std(axis=0)
    # 32 bits: 1e-3 at 1e4, of which the standard deviation is a half
    np.testing.assert_allclose(normalizer(x).numpy(), expected.clip(-5, 5), atol=2e-3)


def test_outliers_are_clipped_and_constants_are_not_amplified() -> None:
    normalizer = Normalizer(2)
    start = torch.tensor([[7.0, -0.5], [-9.0, 2.0]])
    assert normalizer(start).tolist() == [[5.0, -0.5], [-5.0, 2.0]]
    normalizer.update(torch.tensor([[1.0, 4.0], [3.0, 4.0]]))
    assert normalizer.mean.tolist() == [2.0, 4.0] and normalizer.var.tolist() == [1.0, 0.0]
    x = torch.tensor([[2.5, 4.0], [8.0, 4.0 + LEAST_STD], [-8.0, 5.0]])
    expected = torch.tensor([[0.5, 0.0], [5.0, 1.0], [-5.0, 5.0]])
    assert torch.allclose(normalizer(x), expected, atol=1e-4)


def test_statistics_of_each_row() -> None:
    together, rows = Normalizer(2, rows=3), [Normalizer(2) for _ in range(3)]
    draw = torch.Generator().manual_seed(0)
    for count in (4, 9):
        x = torch.randn(3, count, 2, generator=draw) * torch.tensor([1.0, 5.0, 0.2])[:, None, None]
        together.update(x)
        for row, own in zip(rows, x, strict=True):
            row.update(own)
    x = torch.randn(3, 7, 2, generator=draw)
    expected = torch.stack([row(own) for row, own in zip(rows, x, strict=True)])
    assert torch.allclose(together(x), expected, atol=1e-6)
    listed = torch.tensor([2, 0])
    assert torch.allclose(together.of_rows(listed)(x[listed]), expected[listed], atol=1e-6)
    assert float((expected[0] - rows[1](x[0])).abs().max()) > 0.1


def actor(one_hot: bool = False) -> SplitActor:
    torch.manual_seed(0)
    return SplitActor(3, 4, (8, 8), 2, initial_std=0.5, one_hot=one_hot)


def test_the_policy_starts_with_zero_mean_and_its_standard_deviation() -> None:
    policy = actor()
    obs = torch.randn(3, 50, 4)
    mean, log_std = policy.distribution(obs)
    assert mean.shape == (3, 50, 2) and float(mean.detach().abs().max()) < 0.03
    assert log_std.exp().flatten().tolist() == pytest.approx([0.5] * 300)


def test_actions_without_noise_are_legal() -> None:
    policy = actor()
    policy.net.shared.data *= 1000
    obs = torch.randn(3, 50, 4)
    raw = policy.distribution(obs)[0]
    actual = policy.mean_action(obs)
    assert torch.equal(actual, raw.clamp(-1.0, 1.0)) and float(raw.detach().abs().max()) > 1.5


def test_observations_are_normalised_and_the_one_hot_vector_is_not() -> None:
    policy = actor(one_hot=True)
    policy.normalizer.update(3.0 + 2.0 * torch.randn(100, 4))
    obs = torch.randn(3, 6, 4)
    x = policy.normalize(obs)
    assert torch.equal(x[..., :4], policy.normalizer(obs))
    assert torch.equal(x[..., 4:], torch.eye(3)[:, None].expand(3, 6, 3))
    assert actor().normalize(obs).shape == (3, 6, 4)
    listed = torch.tensor([2, 0])
    assert torch.equal(policy.normalize(obs[listed], listed), x[listed])
    action = policy.mean_action(obs)[listed]
    assert torch.allclose(policy.mean_action(obs[listed], listed), action, atol=1e-6)


def test_the_policy_is_conditioned_on_the_task_only_by_the_one_hot_vector() -> None:
    obs = torch.randn(1, 6, 4).expand(3, 6, 4)
    blind, told = (actor(one_hot).mean_action(obs) for one_hot in (False, True))
    assert torch.equal(blind[0], blind[1]) and torch.equal(blind[0], blind[2])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((told[one] - told[other]).detach().abs().min()) > 1e-6


def test_a_network_is_restored_with_what_is_split() -> None:
    net, fresh = scattered(SplitMLP(3, WIDTHS)), SplitMLP(3, WIDTHS)
    state: dict[str, Any] = net.state_dict()
    fresh.load_state_dict(state)
    assert_same(fresh.state_dict(), state)
    assert torch.equal(fresh.weights(), net.weights())
