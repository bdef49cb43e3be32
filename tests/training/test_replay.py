"""The replay with a ring per task."""

import pytest
import torch
from task_fakes import assert_same, random_batch
from torch import Tensor

from polyreach.storage.replay import Batch, Replay

CPU = torch.device("cpu")


def numbered(rows: int, values: list[int], start: float = 0.0) -> Batch:
    """Transitions that carry their number: row t holds 100 t + value in every field."""
    number = (100.0 * torch.arange(rows)[:, None] + torch.tensor(values)).float() + start
    wide = number[..., None]
    return Batch(wide, -wide, number, number % 2 == 0, wide + 0.5)


def contents(replay: Replay, task: int) -> list[float]:
    return replay.store[task, : replay.size[task], 0].tolist()


def test_a_full_ring_overwrites_the_oldest() -> None:
    replay = Replay(2, 4, 1, 1, CPU)
    replay.add(numbered(2, [0, 1, 2]))
    assert replay.size == [3, 3] and replay.next == [3, 3]
    replay.add(numbered(2, [3, 4, 5]))
    assert replay.size == [4, 4] and replay.next == [2, 2]
    assert contents(replay, 0) == [4.0, 5.0, 2.0, 3.0]
    assert contents(replay, 1) == [104.0, 105.0, 102.0, 103.0]
    replay.add(numbered(2, [6, 7, 8, 9]))
    assert contents(replay, 0) == [8.0, 9.0, 6.0, 7.0]


def test_only_the_tasks_named_are_added_to() -> None:
    replay = Replay(3, 10, 1, 1, CPU)
    replay.add(numbered(2, [1, 2]), [2, 0])
    assert replay.size == [2, 0, 2] and replay.next == [2, 0, 2]
    # row 0 was task 2's
    assert contents(replay, 2) == [1.0, 2.0] and contents(replay, 0) == [101.0, 102.0]


def test_samples_keep_a_transition_together_and_to_its_task() -> None:
    replay = Replay(3, 20, 1, 1, CPU)
    replay.add(numbered(3, list(range(1, 8))))
    replay.add(numbered(1, [50]), [1])
    batch = replay.sample(200, torch.Generator().manual_seed(0))
    assert batch.obs.shape == (3, 200, 1) and batch.reward.shape == (3, 200)
    number = batch.reward
    assert torch.equal(batch.obs[..., 0], number) and torch.equal(batch.action[..., 0], -number)
    assert torch.equal(batch.next_obs[..., 0], number + 0.5)
    assert torch.equal(batch.terminated, (number % 2 == 0).float())
    assert set(number[0].tolist()) == set(range(1, 8))
    assert set(number[1].tolist()) == {101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 50.0}
    assert set(number[2].tolist()) == {float(value) for value in range(201, 208)}
    chosen = replay.sample(50, torch.Generator().manual_seed(0), [2, 0]).reward
    assert bool((chosen[0] > 200).all()) and bool((chosen[1] < 100).all())


def test_samples_are_uniform_over_what_is_stored() -> None:
    replay = Replay(2, 10, 1, 1, CPU)
    replay.add(numbered(2, list(range(10))))
    replay.add(numbered(1, [3, 4, 5]), [0])
    drawn = replay.sample(40_000, torch.Generator().manual_seed(3)).reward[1] - 100
    share = drawn.long().bincount(minlength=10) / 40_000
    # five standard deviations of a share of 0.1
    assert float((share - 0.1).abs().max()) < 5 * (0.09 / 40_000) ** 0.5


def test_the_greatest_random_number_draws_the_last_transition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay = Replay(1, 100_000, 1, 1, CPU)
    replay.add(numbered(1, list(range(100_000))))

    def greatest(*shape: int, dtype: torch.dtype, **_: object) -> Tensor:
        return torch.full(shape, 1 - torch.finfo(dtype).eps / 2, dtype=dtype)

    monkeypatch.setattr(torch, "rand", greatest)
    assert replay.sample(2, torch.Generator()).reward.tolist() == [[99_999.0, 99_999.0]]


@pytest.mark.parametrize("added", [3, 10, 27])
def test_a_restored_replay_continues_identically(added: int) -> None:
    first, second = (Replay(2, 10, 2, 2, CPU) for _ in range(2))
    for index in range(added):
        first.add(random_batch(2, 1, seed=index))
    first.add(random_batch(1, 2, seed=99), [1])
    second.add(random_batch(2, 9, seed=100))
    saved = first.state_dict()
    assert [len(ring) for ring in saved["store"]] == [min(added, 10), min(added + 2, 10)]
    second.load_state_dict(saved)
    # what was saved is a copy
    kept = [ring.clone() for ring in saved["store"]]
    for replay in (first, second):
        replay.add(random_batch(2, 4, seed=101))
    assert_same(saved["store"], kept)
    assert_same(first.state_dict(), second.state_dict())
    one, other = (replay.sample(30, torch.Generator().manual_seed(5)) for replay in (first, second))
    assert_same(one, other)
