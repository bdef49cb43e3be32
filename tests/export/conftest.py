"""One thread for each test process: the networks are small, and processes share the machine."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Training in this process flushes denormals, which other tests need: they are back after."""
    torch.set_num_threads(1)
    yield
    torch.set_flush_denormal(False)
