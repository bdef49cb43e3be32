"""D-Grad (O): surgery by hand, against a loop over whole gradients, and against torchjd."""

from typing import Any

import pytest
import torch
from task_fakes import PointMasses, make, random_batch, step_plainly, weights
from torch import Tensor, nn

from polyreach.errors import UserError
from polyreach.methods.dgrad_o import (
    DGradO,
    DGradOConfig,
    fixed_order,
    inner_products,
    project_conflicts,
    random_order,
)
from polyreach.methods.mtsac import MTSAC, SACConfig
from polyreach.methods.surgery import GradientSurgery, with_task_gradients


def project(gradients: Tensor, order: Tensor | None = None) -> Tensor:
    """Projected gradients (K, P) of `gradients` (K, P)."""
    order = fixed_order(len(gradients)) if order is None else order
    return project_conflicts(gradients @ gradients.T, order) @ gradients


def project_one_by_one(gradients: Tensor, order: Tensor) -> Tensor:
    """Algorithm 1 as it is written, on the vectors themselves."""
    rows = []
    for i, js in enumerate(order.tolist()):
        g = gradients[i].clone()
        for j in js:
            product = g @ gradients[j]
            if product < 0:
                g -= product / gradients[j].square().sum() * gradients[j]
        rows.append(g)
    return torch.stack(rows)


def test_two_conflicting_gradients() -> None:
    found = project(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    # g_1 = (1, 0) + 1/2 (-1, 1); g_2 = (-1, 1) + (1, 0), with the original g_1
    assert found.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_gradients_that_do_not_conflict_are_unchanged() -> None:
    for gradients in ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 0.5]]):
        assert project(torch.tensor(gradients)).tolist() == gradients


def test_the_order_of_projections_matters() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -2.0]])
    first = project(gradients, torch.tensor([[1, 2], [0, 2], [0, 1]]))
    # g_1: against (-1, 1), product -1: (0.5, 0.5); against (-1, -2), product -1.5: + 0.3 (-1, -2)
    # g_2: against (1, 0): (0, 1); against (-1, -2), product -2: + 0.4 (-1, -2)
    # g_3: against (1, 0): (0, -2); against (-1, 1), product -2: + 1 (-1, 1)
    expected = torch.tensor([[0.2, -0.1], [-0.4, 0.2], [-1.0, -1.0]])
    assert torch.allclose(first, expected, atol=1e-6)
    second = project(gradients, torch.tensor([[2, 1], [2, 0], [1, 0]]))
    # g_1: against (-1, -2), product -1: (0.8, -0.4); against (-1, 1), product -1.2: + 0.6 (-1, 1)
    # g_2: against (-1, -2), product -1: (-1.2, 0.6); against (1, 0): (0, 0.6)
    # g_3: against (-1, 1), product -1: (-1.5, -1.5); against (1, 0): (0, -1.5)
    expected = torch.tensor([[0.2, 0.2], [0.0, 0.6], [0.0, -1.5]])
    assert torch.allclose(second, expected, atol=1e-6)


def test_opposite_and_zero_gradients() -> None:
    assert project(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])).abs().max() < 1e-6
    gradients = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert project(gradients).tolist() == [[0.0, 0.0]] * 3
    assert project(gradients[:2]).tolist() == gradients[:2].tolist()


@pytest.mark.parametrize("tasks", [2, 3, 10])
def test_surgery_on_inner_products_equals_surgery_on_vectors(tasks: int) -> None:
    draw = torch.Generator().manual_seed(tasks)
    projected = 0
    for _ in range(10):
        gradients = torch.randn(tasks, 4, generator=draw, dtype=torch.float64)
        for order in (fixed_order(tasks), random_order(tasks, draw)):
            found = project(gradients, order)
            assert torch.allclose(found, project_one_by_one(gradients, order), atol=1e-10)
            projected += not torch.allclose(found, gradients)
    assert projected > 5


def test_fixed_and_random_orders_of_projection() -> None:
    assert fixed_order(3).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert fixed_order(1).shape == (1, 0)
    draw = torch.Generator().manual_seed(0)
    orders = torch.stack([random_order(4, draw) for _ in range(2000)])
    for task in range(4):
        others = [other for other in range(4) if other != task]
        rows = orders[:, task]
        assert torch.equal(rows.sort(dim=1).values, torch.tensor(others).expand(2000, -1))
        # all six orders about as often: five standard deviations
        counts = torch.tensor([10 * 10, 10, 1]).mul(rows).sum(dim=1).unique(return_counts=True)[1]
        assert len(counts) == 6 and float((counts - 2000 / 6).abs().max()) < 5 * 278**0.5
    # rows are drawn apart
    assert (orders[:, 0, 0] - orders[:, 1, 0]).unique().numel() > 1


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("order", ["fixed", "random"])
def test_combined_gradient_is_that_of_torchjd(
    combine: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    config = DGradOConfig(combine=combine, order=order)  # type: ignore[arg-type]
    learner = make(DGradO, config, PointMasses(6))
    draw = torch.Generator().manual_seed(1)
    for _ in range(5):
        gradients = torch.randn(6, 20, generator=draw)
        state = learner.generator.get_state()
        found = learner.combine(gradients)
        learner.generator.set_state(state)
        drawn = fixed_order(6) if order == "fixed" else random_order(6, learner.generator)
        # their order for task i is a permutation of all tasks, i among them
        theirs = iter([torch.cat([torch.tensor([i]), row]) for i, row in enumerate(drawn)])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randperm", lambda count, theirs=theirs: next(theirs))
            expected = aggregation.PCGrad()(gradients)
        assert torch.allclose(found, expected / (6 if combine == "mean" else 1), atol=1e-5)
        assert not torch.allclose(found, gradients.sum(dim=0), atol=1e-2)


def gradients_of_each(network: nn.Module, task_loss: Tensor) -> Tensor:
    """One ordinary backward pass per task: (K, P)."""
    rows = [
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for loss in task_loss
    ]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def actor_loss(learner: MTSAC, actor: Any, seed: int = 0) -> Tensor:
    batch = random_batch(3, 6, seed)
    noise = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(seed))
    action, log_prob = actor(batch.obs, noise)
    return (0.3 * log_prob - learner.critic(batch.obs, action).amin(dim=0)).mean(dim=-1)


def critic_loss(learner: MTSAC, critic: Any, seed: int = 0) -> Tensor:
    batch = random_batch(3, 6, seed)
    q = critic(batch.obs, batch.action)
    return (q - batch.reward).square().mean(dim=-1).sum(dim=0)


LOSSES = {"actor": actor_loss, "critic": critic_loss}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_all_tasks_in_one_backward_pass(name: str) -> None:
    learner = make(DGradO, DGradOConfig(), hidden=(16, 12))
    network, view = getattr(learner, name), getattr(learner, f"loss_{name}")

    def compare(seed: int) -> None:
        expected_loss, loss = (LOSSES[name](learner, each, seed) for each in (network, view))
        assert torch.allclose(expected_loss, loss, atol=1e-6)
        stacked = torch.autograd.grad(loss.sum(), list(view.parameters()))  # (M, K, in, out)
        found = torch.cat([g.transpose(0, 1).flatten(1) for g in stacked], dim=1)
        expected = gradients_of_each(network, expected_loss)
        assert torch.allclose(found, expected, atol=1e-5)
        assert expected.norm(dim=1).min() > 1e-3
        gram = inner_products(stacked)
        assert torch.allclose(gram, expected @ expected.T, rtol=1e-4, atol=1e-5)

    compare(0)
    # the view follows the weights: after a step, and after they are loaded
    saved = {key: value.clone() for key, value in network.state_dict().items()}
    old = weights(network)
    learner.update_on(random_batch(3), torch.randn(2, 3, 5, 2))
    assert not torch.equal(old[0], next(network.parameters()))
    compare(1)
    network.load_state_dict(saved)
    assert torch.equal(old[0], next(network.parameters()))
    compare(2)


def test_surgery_by_parameter_is_surgery_on_whole_gradients() -> None:
    learner = make(DGradO, DGradOConfig(), PointMasses(4))
    draw = torch.Generator().manual_seed(2)
    stacks = [torch.randn(2, 4, *shape, generator=draw) for shape in ((3, 5), (1, 5), (5, 2))]
    whole = GradientSurgery.combine_stacks(learner, stacks)
    for part, expected, stack in zip(learner.combine_stacks(stacks), whole, stacks, strict=True):
        assert part.shape == expected.shape == stack[:, :1].shape
        assert torch.allclose(part, expected, atol=1e-5)
        assert not torch.allclose(part, stack.sum(dim=1, keepdim=True), atol=1e-2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_networks_step_along_the_combined_gradient(name: str, combine: str) -> None:
    config = DGradOConfig(combine=combine)  # type: ignore[arg-type]
    learner = make(DGradO, config, hidden=(16, 12), grad_clip=1e6)
    network, view = getattr(learner, name), getattr(learner, f"loss_{name}")
    # tasks that pull the same weights apart
    signs = torch.tensor([1.0, -1.0, 0.5])
    each = gradients_of_each(network, signs * LOSSES[name](learner, network))
    assert ((each @ each.T) < 0).any()
    expected = project_one_by_one(each, fixed_order(3)).sum(dim=0)
    expected = expected / 3 if combine == "mean" else expected
    before = torch.cat([w.flatten() for w in weights(network)])
    optimizer = step_plainly(network.parameters())
    norm = learner.descend(optimizer, view, signs * LOSSES[name](learner, view))
    after = torch.cat([w.flatten() for w in weights(network)])
    assert torch.allclose(before - after, expected, atol=1e-5)
    assert float(norm) == pytest.approx(float(expected.norm()), rel=1e-4)


def test_without_conflicts_the_mean_is_mtsac() -> None:
    learners = [
        make(DGradO, DGradOConfig(combine="mean"), PointMasses(1), hidden=(16,)),
        make(MTSAC, SACConfig(), PointMasses(1), hidden=(16,)),
    ]
    for update in range(5):
        noise = torch.randn(2, 1, 5, 2)
        for learner in learners:
            learner.update_on(random_batch(1, seed=update), noise)
    for one, other in zip(weights(learners[0].critic), weights(learners[1].critic), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    for one, other in zip(weights(learners[0].actor), weights(learners[1].actor), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_view_has_no_weights_of_its_own() -> None:
    learner = make(DGradO, DGradOConfig())
    view = with_task_gradients(learner.critic, 3)
    for own, shared in zip(view.parameters(), learner.critic.parameters(), strict=True):
        assert own.data_ptr() == shared.data_ptr()
        assert own.shape[1] == 3 and own.stride()[1] == 0
    plain = make(MTSAC, SACConfig())
    assert learner.state_dict()["actor"].keys() == plain.state_dict()["actor"].keys()


def test_its_defaults_are_the_papers() -> None:
    config = DGradOConfig()
    assert (config.hidden, config.combine, config.order) == ((160,) * 6, "sum", "fixed")


@pytest.mark.parametrize("changes", [{"combine": "total"}, {"order": "sorted"}])
def test_illegal_settings(changes: dict[str, Any]) -> None:
    (name, value), *_ = changes.items()
    with pytest.raises(UserError, match=rf"{name} is '{value}', but must be one of"):
        DGradOConfig(**changes)
