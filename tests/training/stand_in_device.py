"""A device of PyTorch named `stand_in` that behaves as a GPU does and computes on the CPU.

    stand_in_device.install()
    torch.zeros(3, device="stand_in")

Its tensors and those of the CPU cannot be mixed, NumPy cannot read them, and random numbers on it
need a generator of it: what would fail on a GPU raises RuntimeError or TypeError here. As on a GPU,
scalars and indices may be on the CPU. Results are those of the CPU. The device stays in the process
that installs it, in which other tests should not run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "stand_in"
_ops = torch.ops.aten
_TRANSFERS = {_ops._to_copy.default, _ops.copy_.default}
_BY_INDEX = {
    _ops.index.Tensor,
    _ops.index_put.default,
    _ops.index_put_.default,
    _ops._index_put_impl_.default,
}


class StandInTensor(Tensor):
    """A tensor on the device; `stored` is where its numbers are."""

    stored: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, stored: Tensor) -> "StandInTensor":
        tensor: StandInTensor = Tensor._make_wrapper_subclass(
            cls,
            stored.size(),
            strides=stored.stride(),
            storage_offset=stored.storage_offset(),
            dtype=stored.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.stored = stored
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(op, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"StandInTensor({self.stored})"

    def tolist(self) -> Any:
        """PyTorch has none for subclasses."""
        return self.stored.tolist()

    def __getitem__(self, index: Any) -> Any:
        """PyTorch makes tensors of lists where it does not ask subclasses."""
        parts = index if isinstance(index, tuple) else (index,)
        known = (torch.tensor(part) if isinstance(part, list) else part for part in parts)
        return super().__getitem__(tuple(known))

    def __setitem__(self, index: Any, value: Any) -> None:
        """Likewise; without a gradient. Slices may be of a tensor of another device."""
        if torch.is_grad_enabled():
            assert not self.requires_grad and not getattr(value, "requires_grad", False)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, list | Tensor) for part in parts):
            _check_devices("__setitem__", (self, value))
        index, value = pytree.tree_map_only(StandInTensor, _stored, (index, value))
        self.stored[index] = value


class StandInGenerator(torch.Generator):
    """A generator of the CPU that knows for which device it was made."""

    made_for: torch.device

    def __new__(cls, device: str | torch.device = "cpu") -> "StandInGenerator":
        generator: StandInGenerator = super().__new__(cls, "cpu")
        generator.made_for = torch.device(device)
        return generator


def _stored(tensor: StandInTensor) -> Tensor:
    return tensor.stored


def _on_stand_in(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _check_devices(name: object, values: Any) -> None:
    """Raise RuntimeError if tensors of both devices are in `values`, scalars apart."""
    tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
    other = [leaf for leaf in tensors if not isinstance(leaf, StandInTensor) and leaf.dim()]
    if other and len(other) < len(tensors):
        raise RuntimeError(
            f"{name}: expected all tensors to be on {NAME}, but one of shape "
            f"{tuple(other[0].shape)} is on {other[0].device}"
        )


def _run(op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operator of PyTorch on what is stored; what it returns is on the device if its arguments
    are, or if it makes it there.
    """
    if op not in _TRANSFERS and op not in _BY_INDEX:
        _check_devices(op, (args, kwargs))
    device = kwargs.get("device")
    leaves = pytree.tree_leaves((args, kwargs))
    stays = any(isinstance(leaf, StandInTensor) for leaf in leaves)
    stored_args, stored = pytree.tree_map_only(StandInTensor, _stored, (args, kwargs))
    if device is not None:
        stays = _on_stand_in(device)
        stored["device"] = torch.device("cpu")
    result = op(*stored_args, **stored)
    written = [
        args[place] if place < len(args) else kwargs[argument.name]
        for place, argument in enumerate(op._schema.arguments)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and (place < len(args) or argument.name in kwargs)
    ]
    returns = op._schema.returns
    if returns and all(part.alias_info and part.alias_info.is_write for part in returns):
        return written[0] if len(returns) == 1 else tuple(written[: len(returns)])
    return pytree.tree_map_only(Tensor, StandInTensor, result) if stays else result


def _by_transfer(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that makes a tensor of numbers, which PyTorch does where it asks no device."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        tensor = make(*args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made


def _with_generator_of(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that draws random numbers, with a generator of the same device only."""

    def drawn(*args: Any, generator: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
        made_for = getattr(generator, "made_for", None)
        if made_for is not None and _on_stand_in(made_for) != _on_stand_in(device):
            raise RuntimeError(
                f"expected a generator of {device or 'cpu'}, but it is of {made_for}"
            )
        return draw(*args, generator=generator, device=device, **kwargs)

    return drawn


_LIBRARY: list[torch.library.Library] = []


def install() -> None:
    """Register the device in this process."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    _LIBRARY.append(library)  # what it registers ends with it
    torch.Generator = StandInGenerator  # type: ignore[misc]
    for name in ("tensor", "as_tensor"):
        setattr(torch, name, _by_transfer(getattr(torch, name)))
    for name in ("rand", "randn", "randint", "randperm"):
        setattr(torch, name, _with_generator_of(getattr(torch, name)))
