"""Child process: check a policy file's graph, load it, and measure it on random inputs.

Run by policy_file.py, with the file on standard input. Loops and shapes that depend on the input
are refused. An If is legal, for a policy that computes less while its goals stay as they are, also
within the branches of others: all branches are then checked together, and the graph is measured as
it is and with each choice of the branches that all Ifs of a depth take. All other work is the same
in every run, so that random inputs measure any run, and the choices share as many runs as the graph
itself has.
This file imports no more than it needs, because imports take most of the time of the check.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from time import thread_time
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

MAX_NODES = 10_000
MAX_DEPTH = 3  # of an If, within others
STEERING = tuple(f"polyreach_then_{depth}" for depth in range(MAX_DEPTH))
MAX_WEIGHTS = 2**24  # elements of all weights together, as of 64 MiB of 32-bit numbers
MAX_VALUES = 2**25  # elements of all that is computed in a run of one robot
DOMAINS = ("", "ai.onnx")
BRANCHES = ("then_branch", "else_branch")
RUNS = 100
RETRIES = 4  # of an input that takes longer than those before
RUNS_CPU_S = 2.0  # [s] of RUNS, after which a slow policy need not run again
SEED = 0

Array = NDArray[np.float64]


class Refusal(ValueError):
    """Why the file is refused, in words that follow the file's name."""


def trial(data: bytes) -> dict[str, Any]:
    """`worst_s`, the largest CPU time [s] of `runs` random inputs; `values`, elements of a run.

    Raises Refusal.
    """
    model = onnx.ModelProto.FromString(data)
    if not model.graph.node:
        raise Refusal("is not an ONNX model: its graph has no nodes")
    joint_range = _joint_range({pair.key: pair.value for pair in model.metadata_props})
    flat, depth, choices = flattened(model)
    values = check_graph(flat, choices)
    session = _session(data)
    worst_s, runs = _measured(session, joint_range, {})
    if depth:
        names = STEERING[:depth]
        session = _session(steered(model, names).SerializeToString())
        for choice in product((True, False), repeat=depth):
            steering = {name: np.array(then) for name, then in zip(names, choice, strict=True)}
            slowest_s, count = _measured(session, joint_range, steering, 0.5**depth)
            worst_s, runs = max(worst_s, slowest_s), runs + count
    return {"worst_s": worst_s, "runs": runs, "values": values}


def _session(data: bytes) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise Refusal(f"is not an ONNX model: {_line(error)}") from None


def _measured(
    session: ort.InferenceSession,
    joint_range: tuple[Array, Array],
    steering: Mapping[str, NDArray[np.bool_]],
    share: float = 1.0,
) -> tuple[float, int]:
    try:
        return measure(session, *joint_range, share, steering)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"does not run: {_line(error)}") from None


def _is_if(node: onnx.NodeProto) -> bool:
    return node.op_type == "If" and node.domain in DOMAINS


def flattened(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int, list[tuple[str, str]]]:
    """The model with the nodes of both branches in place of every If, how deep its Ifs are, and the
    pairs of tensors between which they choose: the first is in the place of the If's output.

    Raises Refusal for an If without both branches, whose branches have other numbers of outputs, or
    that is deeper than MAX_DEPTH.
    """
    _check_size(model.graph)
    copy, choices, depth = onnx.ModelProto(), list[tuple[str, str]](), 0
    copy.CopyFrom(model)
    while any(map(_is_if, copy.graph.node)):
        if depth == MAX_DEPTH:
            raise Refusal(f"has an If within others that are {MAX_DEPTH} deep")
        nodes = list(copy.graph.node)
        del copy.graph.node[:]
        for number, node in enumerate(nodes):
            if not _is_if(node):
                copy.graph.node.append(node)
                continue
            then, other = (
                _put_branch(copy.graph, node, branch, f"{branch}_{depth}_{number}/")
                for branch in BRANCHES
            )
            for output, name in zip(node.output, then, strict=True):
                copy.graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
            choices += zip(node.output, other, strict=True)
        depth += 1
    return copy, depth, choices


def steered(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model in which new inputs decide, the one of `names` for all Ifs of a depth."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, [])
        copy.graph.input.append(info)

    def steer(graph: onnx.GraphProto, depth: int) -> None:
        for node in graph.node:
            if _is_if(node):
                node.input[:] = [names[depth]]
                for attribute in node.attribute:
                    steer(attribute.g, depth + 1)

    steer(copy.graph, 0)
    return copy


def _put_branch(
    graph: onnx.GraphProto, node: onnx.NodeProto, branch: str, prefix: str
) -> list[str]:
    """Append the nodes of a branch of an If, with a prefix of the names that are made there;
    returns the names of its outputs.
    """
    body = next((entry.g for entry in node.attribute if entry.name == branch), None)
    if body is None or len(body.output) != len(node.output):
        raise Refusal(f"is not an ONNX model: an If has no '{branch}' of its outputs")
    made = [name for inner in body.node for name in inner.output]
    made += [tensor.name for tensor in body.initializer]
    renamed = {name: f"{prefix}{name}" for name in filter(None, made)}
    _rename(body, renamed)
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    graph.node.extend(body.node)
    return [tensor.name for tensor in body.output]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors of a graph, also where the branches of its Ifs use them."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
    for tensor in (*graph.initializer, *graph.output):
        tensor.name = names.get(tensor.name, tensor.name)


def session_options() -> ort.SessionOptions:
    """One thread, in the order of the graph, no messages: as the controller runs a policy."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # which buffers to share is decided by a search quadratic in the nodes: most of the time of
    # loading a large graph, for the same memory and time of a run
    options.enable_mem_reuse = False
    options.log_severity_level = 4
    return options


def _check_size(graph: onnx.GraphProto) -> None:
    if len(graph.node) > MAX_NODES:
        raise Refusal(f"has {len(graph.node)} nodes, expected at most {MAX_NODES}")


def check_graph(model: onnx.ModelProto, choices: Sequence[tuple[str, str]] = ()) -> int:
    """Raise Refusal for a graph that can do more than a fixed, small amount of work, or with pairs
    of tensors among `choices` that differ in shape.

    Returns the number of elements that a run of one robot computes.
    """
    graph = model.graph
    if model.functions:
        names = ", ".join(f"'{function.name}'" for function in model.functions[:3])
        raise Refusal(
            f"defines {len(model.functions)} functions ({names}), expected none: write the "
            "operators into the graph"
        )
    _check_size(graph)
    for node in graph.node:
        if node.domain not in DOMAINS:
            raise Refusal(
                f"has the operator '{node.domain}.{node.op_type}', expected operators of ONNX alone"
            )
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise Refusal(
                    f"has control flow: operator '{node.op_type}' has a graph of its own, expected "
                    f"none (legal: Where, and If up to {MAX_DEPTH} deep)"
                )
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise Refusal(f"has a sparse tensor in '{node.op_type}', expected none")
    if graph.sparse_initializer:
        raise Refusal("has sparse weights, expected weights of full tensors")
    weights = 0
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise Refusal(f"has its weight '{tensor.name}' in another file, expected all in one")
        weights += abs(math.prod(tensor.dims))
    if weights > MAX_WEIGHTS:
        raise Refusal(f"has weights of {weights} elements, expected at most {MAX_WEIGHTS}")
    return _count_values(model, choices)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _count_values(model: onnx.ModelProto, choices: Sequence[tuple[str, str]]) -> int:
    """Elements of all values of one robot. Raises Refusal for too many, or without fixed shape."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    for tensor in graph.input:
        shape = tensor.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_value = 1
    # shapes are inferred from the operators; those written in the file are not trusted
    del graph.value_info[:]
    for tensor in graph.output:
        tensor.type.tensor_type.ClearField("shape")
    try:
        implied = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:
        raise Refusal(f"is not an ONNX model: {_line(error)}") from None
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer} | {
        tensor.name: _shape(tensor)
        for tensor in (*graph.input, *implied.value_info, *implied.output)
        if tensor.name not in weights
    }
    for name in (tensor.name for tensor in graph.input):
        if name in shapes and shapes[name] is None:
            raise Refusal(f"has an input '{name}' without a fixed shape after the batch")
    total = 0
    for node in graph.node:
        for name in filter(None, node.output):
            shape = shapes.get(name)
            if shape is None:
                raise Refusal(
                    f"is without bounds: the output '{name}' of operator '{node.op_type}' has no "
                    "fixed shape for a batch of one"
                )
            total += math.prod(shape)
    for first, second in choices:
        if shapes.get(first) != shapes.get(second):
            raise Refusal(
                f"is without bounds: the branches of an If give '{first}' the shapes "
                f"{shapes.get(first)} and {shapes.get(second)}, expected the same"
            )
    if total > MAX_VALUES:
        raise Refusal(f"computes values of {total} elements in all, expected at most {MAX_VALUES}")
    return total


def _shape(tensor: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """None if it is not fixed."""
    kind = tensor.type.tensor_type
    if not tensor.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in kind.shape.dim):
        return None
    return tuple(dim.dim_value for dim in kind.shape.dim)


def _joint_range(metadata: dict[str, str]) -> tuple[Array, Array]:
    """Lowest and highest joint positions (nu,) that the contract names, which is checked later."""
    try:
        low, high = np.asarray(json.loads(metadata["joint_pos_limits"]), dtype=np.float64).T
        np.random.default_rng().uniform(low, high)  # finite, and of one axis
        return np.atleast_1d(low), np.atleast_1d(high)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return np.array([-math.pi]), np.array([math.pi])


def measure(
    session: ort.InferenceSession,
    low: Array,
    high: Array,
    share: float = 1.0,
    steering: Mapping[str, NDArray[np.bool_]] | None = None,
) -> tuple[float, int]:
    """Largest CPU time [s] of a run, and the number of runs, after one that does not count.

    An input that takes longer than those before is run again, up to RETRIES times, and the
    shortest time counts.

    low, high: (nu,) range of the joint positions [rad or m]; goals are within 1 m, and new in every
    run. The memory of a run is the `next_memory` of the one before. share: of RUNS and RUNS_CPU_S.
    steering: inputs that decide, see `steered`.
    """
    rng = np.random.default_rng(SEED)
    steering = steering or {}
    inputs = [tensor for tensor in session.get_inputs() if tensor.name not in STEERING]
    outputs = [tensor.name for tensor in session.get_outputs()]
    for tensor in inputs:
        if tensor.type != "tensor(float)":
            raise Refusal(f"has input '{tensor.name}' of {tensor.type}, expected tensor(float)")

    memory: Array | None = None

    def draw(tensor: Any) -> NDArray[np.float32]:
        shape = (1, *tensor.shape[1:]) if tensor.shape else ()
        values = rng.uniform(-1.0, 1.0, shape)
        if tensor.name == "joint_pos" and shape[1:] == low.shape:
            values = rng.uniform(low, high, shape)
        elif tensor.name in ("active", "oriented"):
            values = (values > 0.0).astype(np.float64)
        elif tensor.name == "goal_orientations":
            values /= np.linalg.norm(values, axis=-1, keepdims=True)
        elif tensor.name == "memory":
            values = memory if memory is not None else np.zeros(shape)
        return values.astype(np.float32)

    def timed(feed: Mapping[str, NDArray[Any]]) -> tuple[list[Array], float]:
        start_s = thread_time()
        results = session.run(None, feed)
        return results, thread_time() - start_s

    def run(slow_s: float) -> float:
        nonlocal memory
        feed = {**{tensor.name: draw(tensor) for tensor in inputs}, **steering}
        results, taken_s = timed(feed)
        for _ in range(RETRIES):  # the machine may have been slow, rather than the policy
            if taken_s > slow_s:
                taken_s = min(taken_s, timed(feed)[1])
        if "next_memory" in outputs:
            memory = results[outputs.index("next_memory")].astype(np.float64)
        return taken_s

    worst_s = total_s = 0.0
    runs = 0
    run(math.inf)
    while runs < RUNS * share and total_s < RUNS_CPU_S * share:
        taken_s = run(worst_s)
        worst_s, total_s, runs = max(worst_s, taken_s), total_s + taken_s, runs + 1
    return worst_s, runs


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main() -> None:
    """Print the outcome as one line of JSON."""
    try:
        outcome = trial(sys.stdin.buffer.read())
    except Refusal as error:
        outcome = {"refused": str(error)}
    except MemoryError:
        outcome = {"refused": "needs more memory than a policy may take"}
    except Exception as error:
        outcome = {"refused": f"is not an ONNX model: {type(error).__name__}: {_line(error)}"}
    print("\n" + json.dumps(outcome))


if __name__ == "__main__":
    main()
