"""Networks of the task-conditioned methods against loops, torch.distributions and arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from polyreach.methods.dgrad_a import TurnedMLP
from polyreach.methods.soft_modularization import ModularNetwork, SoftModularizationConfig
from polyreach.networks.gaussian import LOG_STD_MAX, LOG_STD_MIN, GaussianActor
from polyreach.networks.mlp import DeterministicActor, Sharing, TaskCritic, TaskLinear, TaskMLP

T, B = 3, 5
SHARINGS: tuple[Sharing, ...] = ("all", "trunk", "none")


class Fixed(nn.Module):
    """A body whose output is given."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = nn.Parameter(out)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        return self.out if tasks is None else self.out[:, tasks]


def modular(members: int, inputs: int, outputs: int) -> ModularNetwork:
    config = SoftModularizationConfig(hidden=(9,), embedding=16, layers=3, modules=2, width=12)
    return ModularNetwork(members, T, inputs, outputs, config)


def perceptrons(sharing: Sharing) -> Callable[[int, int, int], nn.Module]:
    return lambda members, inputs, outputs: TaskMLP(members, T, inputs, (6, 7), outputs, sharing)


BODIES: dict[str, Callable[[int, int, int], nn.Module]] = {
    **{sharing: perceptrons(sharing) for sharing in SHARINGS},
    "turned": lambda members, inputs, outputs: TurnedMLP(members, T, inputs, (6, 7), outputs),
    "modular": modular,
}


@pytest.mark.parametrize("own", [1, T])
def test_a_layer_is_one_product_per_member_and_task(own: int) -> None:
    layer = TaskLinear(2, own, 3, 4)
    x = torch.randn(2, T, B, 3)
    actual = layer(x)
    for member in range(2):
        for task in range(T):
            row = task if own == T else 0
            weight, bias = layer.weight[member, row], layer.bias[member, row, 0]
            for sample in range(B):
                expected = [
                    sum(x[member, task, sample, i] * weight[i, o] for i in range(3)) + bias[o]
                    for o in range(4)
                ]
                assert torch.allclose(
                    actual[member, task, sample], torch.stack(expected), atol=1e-6
                )


def test_a_layer_starts_as_that_of_torch() -> None:
    torch.manual_seed(0)
    layer, reference = TaskLinear(4, 5, 64, 200), nn.Linear(64, 4000)
    for mine, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        assert float(mine.detach().abs().max()) == pytest.approx(1 / 8, rel=0.01)
        assert float(mine.detach().std()) == pytest.approx(float(theirs.detach().std()), rel=0.03)
        assert abs(float(mine.detach().mean())) < 0.003


@pytest.mark.parametrize("sharing", SHARINGS)
def test_perceptrons_share_the_declared_weights(sharing: Sharing) -> None:
    net: Any = TaskMLP(2, T, 4, (6, 7), 3, sharing)
    x = torch.randn(2, T, B, 4)
    actual = net(x)
    assert actual.shape == (2, T, B, 3)
    for member in range(2):
        for task in range(T):
            h = x[member, task]
            if sharing != "none":
                h = torch.cat([h, torch.eye(T)[task].expand(B, T)], dim=-1)
            for layer in net.layers:
                own = task if sharing == "none" else 0
                h = (h @ layer.weight[member, own] + layer.bias[member, own]).clamp(min=0)
            own = 0 if sharing == "all" else task
            out = h @ net.head.weight[member, own] + net.head.bias[member, own]
            assert torch.allclose(actual[member, task], out, atol=1e-6)
    trunk, heads = (T if sharing == "none" else 1), (1 if sharing == "all" else T)
    assert [layer.weight.shape[1] for layer in net.layers] == [trunk, trunk]
    assert net.head.weight.shape == (2, heads, 7, 3)
    # the one-hot vector is an input where, and only where, weights are shared
    assert net.layers[0].weight.shape[2] == (4 if sharing == "none" else 4 + T)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("rows", [[2, 0], [1], [0, 1, 2]])
def test_the_rows_of_some_tasks_are_those_of_the_full_call(name: str, rows: list[int]) -> None:
    torch.manual_seed(1)
    tasks = torch.tensor(rows)
    obs, noise = torch.randn(T, B, 4), torch.randn(T, B, 2)
    actor = GaussianActor(BODIES[name](1, 4, 4))
    critic = TaskCritic(BODIES[name](2, 6, 1), 2)
    deterministic = DeterministicActor(BODIES[name](1, 4, 2))
    action, log_prob = actor(obs, noise)
    some, some_log_prob = actor(obs[tasks], noise[tasks], tasks)
    assert torch.allclose(some, action[tasks], atol=1e-6)
    assert torch.allclose(some_log_prob, log_prob[tasks], atol=1e-5)
    mean = actor.mean_action(obs)
    assert torch.allclose(actor.mean_action(obs[tasks], tasks), mean[tasks], atol=1e-6)
    q = critic(obs, action)
    assert q.shape == (2, T, B)
    assert torch.allclose(critic(obs[tasks], action[tasks], tasks), q[:, tasks], atol=1e-6)
    chosen = deterministic(obs[tasks], tasks)
    assert torch.allclose(chosen, deterministic(obs)[tasks], atol=1e-6)
    # the same observation means something else in another task
    same = actor.mean_action(obs[:1].expand(T, -1, -1))
    assert all((same[a] - same[b]).abs().max() > 1e-5 for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_loss_of_a_task_has_gradients_only_for_its_weights(sharing: Sharing) -> None:
    net: Any = TaskMLP(2, T, 4, (6, 7), 3, sharing)
    net(torch.randn(2, T, B, 4))[:, 1].square().sum().backward()
    for layer, own in ((net.head, sharing != "all"), (net.layers[1], sharing == "none")):
        reached = [bool(row.any()) for row in layer.weight.grad.unbind(1)]
        assert reached == ([False, True, False] if own else [True])


def test_log_probability_by_hand() -> None:
    # one state, one action: mean 0.3, standard deviation e^-0.5, noise 0.7
    actor = GaussianActor(Fixed(torch.tensor([[[[0.3, -0.5]]]])))
    with torch.no_grad():
        action, log_prob = actor(torch.zeros(1, 1, 1), torch.tensor([[[0.7]]]))
        mean = actor.mean_action(torch.zeros(1, 1, 1))
    std = math.exp(-0.5)
    u = 0.3 + std * 0.7
    density = math.exp(-0.5 * 0.7**2) / (std * math.sqrt(2 * math.pi))
    assert float(action) == pytest.approx(math.tanh(u), rel=1e-6)
    assert float(log_prob) == pytest.approx(math.log(density / (1 - math.tanh(u) ** 2)), rel=1e-5)
    assert float(mean) == pytest.approx(math.tanh(0.3), rel=1e-6)


def test_log_probability_and_its_gradient_are_those_of_torch_distributions() -> None:
    torch.manual_seed(2)
    out = 0.5 * torch.randn(1, T, B, 6)
    noise = torch.randn(T, B, 3)
    actor = GaussianActor(Fixed(out))
    action, log_prob = actor(torch.zeros(T, B, 1), noise)
    reference = out[0].double().requires_grad_()
    mean, log_std = reference.chunk(2, dim=-1)
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    wanted = torch.tanh(mean + log_std.exp() * noise)
    wanted_log_prob = squashed.log_prob(wanted).sum(dim=-1)
    assert torch.allclose(action, wanted.float(), atol=1e-5)
    assert torch.allclose(log_prob, wanted_log_prob.float(), atol=1e-4)
    actual = torch.autograd.grad(log_prob.sum(), list(actor.parameters()))[0][0]
    expected = torch.autograd.grad(wanted_log_prob.sum(), reference)[0]
    assert torch.allclose(actual, expected.float(), rtol=1e-3, atol=1e-4)


def test_the_density_of_an_action_integrates_to_one() -> None:
    noise = torch.linspace(-9, 9, 20_001)[None, :, None]
    actor = GaussianActor(Fixed(torch.tensor([0.4, -0.7]).expand(1, 1, 20_001, 2).clone()))
    action, log_prob = actor(torch.zeros(1, 20_001, 1), noise)
    total = torch.trapezoid(log_prob[0].double().exp(), action[0, :, 0].double())
    assert float(total.detach()) == pytest.approx(1.0, abs=1e-3)


def test_actions_at_the_limits_keep_a_finite_log_probability() -> None:
    actor = GaussianActor(Fixed(torch.tensor([[[[30.0, 0.0], [-30.0, 0.0]]]])))
    action, log_prob = actor(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    assert action.flatten().tolist() == [1.0, -1.0]
    # log(1 - tanh(30)^2) = log 4 - 60 as nearly as can be
    expected = -0.5 * math.log(2 * math.pi) - (math.log(4) - 60)
    assert log_prob.flatten().tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_the_standard_deviation_is_limited() -> None:
    actor = GaussianActor(Fixed(torch.tensor([[[[0.0, 50.0], [0.0, -50.0], [0.0, 1.5]]]])))
    _, log_std = actor.distribution(torch.zeros(1, 3, 1))
    assert log_std.flatten().tolist() == [LOG_STD_MAX, LOG_STD_MIN, 1.5] == [2.0, -20.0, 1.5]


def test_a_deterministic_actor_squashes_and_critics_differ() -> None:
    actor = DeterministicActor(Fixed(torch.tensor([[[[0.5, -3.0]]]])))
    actual = actor.mean_action(torch.zeros(1, 1, 1)).flatten().tolist()
    assert actual == pytest.approx([math.tanh(0.5), math.tanh(-3.0)], rel=1e-6)
    body: Any = TaskMLP(2, T, 6, (8,), 1, "all")
    critic = TaskCritic(body, 2)
    obs, action = torch.randn(T, B, 4), torch.randn(T, B, 2)
    q = critic(obs, action)
    x = torch.cat([obs, action, torch.eye(T)[:, None].expand(T, B, T)], dim=-1)
    for member in range(2):
        layer, head = body.layers[0], body.head
        h = (x @ layer.weight[member, 0] + layer.bias[member, 0]).clamp(min=0)
        expected = (h @ head.weight[member, 0] + head.bias[member, 0])[..., 0]
        assert torch.allclose(q[member], expected, atol=1e-6)
    assert (q[0] - q[1]).abs().min() > 1e-4
