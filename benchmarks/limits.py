"""What training cannot be faster than: the matrix products of an update, and MuJoCo's steps of an
environment, alone.
"""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class _Products(TorchDispatchMode):
    """Notes every matrix product, with its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func.overloadpacket.__name__ in _PRODUCTS:
            # the same sizes and strides, which the speed depends on
            operands = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in args)
            self.calls.append((func, operands))
        return func(*args, **(kwargs or {}))


def products_of(function: Callable[[], object]) -> Callable[[], None]:
    """What computes the matrix products of one call of `function`, in its order, and nothing else.

    Those of backward passes are among them, where these run in this thread, as on the CPU. Raises
    RuntimeError if there are none.
    """
    with _Products() as products:
        function()
    if not products.calls:
        raise RuntimeError("no matrix product was computed")

    def replay() -> None:
        for func, operands in products.calls:
            func(*operands)

    return replay


def physics_of(
    models: list[mujoco.MjModel], control: NDArray[np.float64], frame_skip: int
) -> Callable[[], None]:
    """What steps the simulations of `models` (N,) by `frame_skip` steps of MuJoCo with controls (N,
    nu), one after the other, from where they are; a simulation begins anew after 50 of its steps.
    """
    simulations = [(model, mujoco.MjData(model)) for model in models]
    for (_, data), row in zip(simulations, control, strict=True):
        data.ctrl[:] = row
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1
        for model, data in simulations:
            if calls % 50 == 0:
                mujoco.mj_resetData(model, data)
            mujoco.mj_step(model, data, frame_skip)

    return step


def share_row(name: str, limit: float, ours: float) -> tuple[str, str]:
    """A row with the share of a time that the limit takes, both in the same unit."""
    return name, f"{limit / ours:.0%} of the time"
