"""One thread per test process: the networks are small, and processes share the machine."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Restores denormals, which training in this process disables and other tests need."""
    torch.set_num_threads(1)
    yield
    torch.set_flush_denormal(False)
