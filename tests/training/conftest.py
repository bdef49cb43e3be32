"""One thread per test process: the networks are small, and processes share the machine."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_without_denormals() -> Iterator[None]:
    """Same settings as `polyreach train`; restores denormals, which other tests need."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
