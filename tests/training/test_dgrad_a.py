"""D-Grad (A): the layer by hand, its random initialisation, and its effect on gradients."""

from typing import Any

import pytest
import torch
from task_fakes import make, random_batch
from torch import Tensor

from polyreach.methods.dgrad_a import DGradA, DGradAConfig, TurnedMLP
from polyreach.methods.mtsac import MTSAC, SACConfig


def set_layer(layer: Any, weight: list[list[list[float]]], bias: list[list[float]]) -> None:
    """Weights (own, in, out) and biases (own, out) of the one member."""
    layer.weight.data = torch.tensor(weight)[None]
    layer.bias.data = torch.tensor(bias).float()[None, :, None]


def test_the_layer_turns_and_shifts_the_activation_of_its_task() -> None:
    net: Any = TurnedMLP(1, 2, 2, (2,), 1)
    set_layer(net.layers[0], [[[1.0, 0.0], [0.0, 1.0]]], [[0.0, 0.0]])
    # task 0: a quarter turn, (x, y) -> (-y, x); task 1: no turn, but a shift
    set_layer(net.turns[0], [[[0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]], [[0, 0], [5, 7]])
    set_layer(net.head, [[[10.0], [1.0]]], [[100.0]])
    x = torch.tensor([[[[2.0, 3.0], [2.0, -3.0]]]]).expand(1, 2, 2, 2)
    # ReLU first: (2, 3) and (2, 0). Task 0: (-3, 2) and (0, 2), which is not rectified again. Task
    # 1: (7, 10) and (7, 7). Then 10 x + y + 100.
    assert net(x)[0, ..., 0].tolist() == [[72.0, 102.0], [180.0, 177.0]]


def test_the_output_is_that_of_a_loop_over_layers() -> None:
    torch.manual_seed(0)
    net: Any = TurnedMLP(2, 3, 4, (5, 6), 2)
    for turn in net.turns:
        turn.bias.data.normal_()
    x = torch.randn(2, 3, 7, 4)
    found = net(x)
    for member in range(2):
        for task in range(3):
            h = x[member, task]
            for layer, turn in zip(net.layers, net.turns, strict=True):
                h = (h @ layer.weight[member, 0] + layer.bias[member, 0]).clamp(min=0)
                m = turn.weight[member, task].mT  # M(z), to the left of a column
                h = torch.stack([m @ column for column in h]) + turn.bias[member, task]
            out = h @ net.head.weight[member, 0] + net.head.bias[member, 0]
            assert torch.allclose(found[member, task], out, atol=1e-5)


def test_every_matrix_starts_as_an_orthogonal_one_of_its_own() -> None:
    net: Any = TurnedMLP(2, 3, 4, (8, 6), 2)
    for turn, width in zip(net.turns, (8, 6), strict=True):
        assert turn.weight.shape == (2, 3, width, width) and turn.weight.is_leaf
        assert turn.weight.requires_grad and not turn.bias.any()
        matrices = turn.weight.detach().flatten(0, 1)
        for matrix in matrices:
            assert torch.allclose(matrix @ matrix.T, torch.eye(width), atol=1e-5)
        apart = torch.cdist(matrices.flatten(1), matrices.flatten(1))
        assert float((apart + 10 * torch.eye(6)).min()) > 1.0


def test_the_task_enters_by_the_task_network_only() -> None:
    learner = make(DGradA, DGradAConfig())
    body: Any = learner.actor.body
    first = body.layers[0]
    assert first.weight.shape == (1, 1, 2, 16)
    for turn in body.turns:
        turn.weight.data = turn.weight.data[:, :1].expand(-1, 3, -1, -1).clone()
    same = learner.actor.mean_action(torch.randn(1, 9, 2).expand(3, -1, -1))
    assert torch.allclose(same[0], same[1]) and torch.allclose(same[0], same[2])


def cosines_between_tasks(learner: MTSAC) -> Tensor:
    """Of the critic's first layer: gradients of the tasks' squared Q-values, on the same states."""
    batch = random_batch(1, 64)
    obs, action = batch.obs.expand(3, -1, -1), batch.action.expand(3, -1, -1)
    body: Any = learner.critic.body
    layer = body.layers[0].weight
    loss = (learner.critic(obs, action) - 1).square().mean(dim=-1).sum(dim=0)  # (T,)
    grads = torch.stack(
        [
            torch.autograd.grad(one, layer, retain_graph=True)[0][..., :4, :].flatten()
            for one in loss
        ]
    )
    return torch.nn.functional.cosine_similarity(grads[:, None], grads[None], dim=-1)


def test_gradients_of_tasks_start_nearer_to_orthogonal_than_without_it() -> None:
    # the point of the architecture: the same states in two tasks pull the shared weights less alike
    def overlap(kind: type[MTSAC], config: SACConfig) -> float:
        found = []
        for seed in range(5):
            cosine = cosines_between_tasks(make(kind, config, seed=seed, hidden=(32, 32)))
            found.append(cosine[torch.triu_indices(3, 3, 1).unbind()].abs().mean())
        return float(torch.stack(found).mean())

    turned, plain = overlap(DGradA, DGradAConfig()), overlap(MTSAC, SACConfig())
    assert turned < 0.6 * plain


def test_its_defaults_are_the_papers() -> None:
    assert DGradAConfig().hidden == (160, 160, 160)
    with pytest.raises(ValueError, match="hidden is .160, 0., but must be widths of at least 1"):
        DGradAConfig(hidden=(160, 0))
