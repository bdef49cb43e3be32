"""A policy file, read once and checked before anything in it runs in this process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyreach_description.limited import LimitError, Limits, run_limited
from polyreach_description.printable import MAX_SHOWN, PrintableError, printable

if TYPE_CHECKING:
    import onnxruntime as ort

MAX_FILE_BYTES = 64 * 2**20
MAX_METADATA_BYTES = 2**20  # keys and values together
MAX_KEY_BYTES = 2**16  # all keys together
TRIAL_LIMITS = Limits(cpu_s=20, memory_bytes=4 * 2**30)
_TRIAL = Path(__file__).with_name("policy_trial.py")


class ContractError(PrintableError, ValueError):
    """A policy file that must not drive this robot; the message names the key, the value found and
    the value expected.
    """


@dataclass(frozen=True)
class PolicyData:
    """The bytes of a policy file that passed the check, and what the check measured."""

    path: Path
    data: bytes
    worst_compute_s: float  # [s] of CPU time, the largest of `runs` random inputs
    runs: int
    values: int  # elements of all that is computed in a run of one robot

    def session(self) -> "ort.InferenceSession":
        """An ONNX Runtime session of one thread, of the bytes that were checked."""
        import onnxruntime as ort  # starts a thread, which only users of policy files need

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_mem_reuse = False  # as in policy_trial.py
        options.log_severity_level = 4
        return ort.InferenceSession(self.data, options, providers=["CPUExecutionProvider"])


def read_policy_file(path: Path) -> PolicyData:
    """Read a policy file and try it in a child process of limited time and memory.

    The child refuses what has control flow other than If, functions, custom operators, weights in
    other files, values without a fixed shape, or too much of anything (see policy_trial.py); then
    it runs the policy on random inputs. Files of the same bytes are tried once in a process.

    Raises ContractError with one sentence that names the file, what it has and what is expected.
    """
    if not path.is_file():
        raise ContractError(f"policy file '{path}' does not exist")
    try:
        if (size := path.stat().st_size) <= MAX_FILE_BYTES:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            size = len(data)
    except OSError as error:
        raise ContractError(f"policy file '{path}' cannot be read: {error.strerror}") from None
    if size > MAX_FILE_BYTES:
        raise ContractError(
            f"policy file '{path}' has {size} bytes, expected at most {MAX_FILE_BYTES}"
        )
    try:
        outcome = _tried(_Bytes(data))
    except LimitError as error:  # not kept: a busy machine may be to blame
        raise ContractError(f"policy file '{path}' cannot be tried: {error}") from None
    if "refused" in outcome:
        raise ContractError(f"policy file '{path}' {outcome['refused']}")
    return PolicyData(path, data, outcome["worst_s"], outcome["runs"], outcome["values"])


class _Bytes:
    """Bytes that are equal to others by their digest, so that a cache need not keep them."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        self.digest = sha256(data).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes) and self.digest == other.digest


@lru_cache(maxsize=64)
def _tried(file: _Bytes) -> dict[str, Any]:
    data, file.data = file.data, None
    assert data is not None
    outcome: dict[str, Any] = run_limited(_TRIAL, (), data, TRIAL_LIMITS)
    return outcome


def check_metadata_size(metadata: Mapping[str, str]) -> None:
    """Raise ContractError for more metadata than any policy has."""
    keys = sum(len(key.encode(errors="replace")) for key in metadata)
    sizes = {key: len(value.encode(errors="replace")) for key, value in metadata.items()}
    if keys > MAX_KEY_BYTES:
        raise ContractError(
            f"policy metadata: found {len(metadata)} keys of {keys} bytes, expected at most "
            f"{MAX_KEY_BYTES} bytes of keys"
        )
    if keys + sum(sizes.values()) > MAX_METADATA_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise ContractError(
            f"policy metadata: found {keys + sum(sizes.values())} bytes, expected at most "
            f"{MAX_METADATA_BYTES} (the largest value: {sizes[largest]} bytes of "
            f"'{printable(largest, MAX_SHOWN)}')"
        )


def parse_value(metadata: Mapping[str, str], key: str) -> Any:
    """The JSON value of a key. Raises ContractError if it is missing or no JSON."""
    if key not in metadata:
        held = ", ".join(sorted(metadata)) or "none"
        raise ContractError(
            f"policy metadata '{key}': missing (the file has: {printable(held, MAX_SHOWN)})"
        )
    try:
        return json.loads(metadata[key], parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(
            f"policy metadata '{printable(key, MAX_SHOWN)}': found "
            f"{printable(metadata[key], MAX_SHOWN)}, expected JSON ({error})"
        ) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
