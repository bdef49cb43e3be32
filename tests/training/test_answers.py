"""Answers of a teacher: rings per task, samples, and their state."""

import torch
from torch import Tensor

from polyreach.storage.answers import Answers

DEVICE = torch.device("cpu")


def numbered(*numbers: int) -> tuple[Tensor, Tensor, Tensor]:
    """States (1, B, 2), and answers (1, B, 1) that follow from them."""
    n = torch.tensor(numbers).float()[None, :, None]
    return torch.cat([n, -n], dim=-1), 10 * n, 100 * n


def kept(answers: Answers, task: int) -> set[int]:
    obs, mean, log_std = answers.sample(200, torch.Generator().manual_seed(0), [task])
    assert obs.shape == (1, 200, 2) and mean.shape == log_std.shape == (1, 200, 1)
    assert torch.equal(mean, 10 * obs[..., :1]) and torch.equal(log_std, 100 * obs[..., :1])
    return set(obs[..., 0].flatten().int().tolist())


def test_each_task_keeps_its_last_states() -> None:
    answers = Answers(2, 4, 2, 1, DEVICE)
    answers.add(*numbered(1, 2, 3), tasks=[0])
    answers.add(*numbered(7), tasks=[1])
    assert kept(answers, 0) == {1, 2, 3} and kept(answers, 1) == {7}
    answers.add(*numbered(4, 5), tasks=[0])
    assert kept(answers, 0) == {2, 3, 4, 5} and kept(answers, 1) == {7}
    answers.add(*numbered(*range(10, 20)), tasks=[1])
    assert kept(answers, 1) == {16, 17, 18, 19}
    assert [answers.size(task) for task in (0, 1)] == [4, 4]


def test_the_state_is_restored_exactly() -> None:
    answers, other = Answers(2, 4, 2, 1, DEVICE), Answers(2, 4, 2, 1, DEVICE)
    answers.add(*numbered(1, 2, 3, 4, 5), tasks=[0])
    answers.add(*numbered(8), tasks=[1])
    other.load_state_dict(answers.state_dict())
    for both in (answers, other):
        both.add(*numbered(6), tasks=[0])
    assert kept(other, 0) == {3, 4, 5, 6} and kept(other, 1) == {8}
    assert torch.equal(answers.store, other.store)
