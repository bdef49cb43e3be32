"""A part of an ONNX graph that is computed only where a condition does not hold."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import NodeProto, helper

Maker = Mapping[str, NodeProto]  # the node that computes a tensor


class Decision(NamedTuple):
    """Values that are computed only where a condition does not hold; the names of tensors."""

    condition: str  # bool, one element
    instead: tuple[str, ...]  # the values where it holds
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (self.condition, *self.instead, *self.values)


def compute_unless(
    model: onnx.ModelProto, condition: str, instead: Sequence[str], values: Sequence[str]
) -> None:
    """Let `values` be computed only where `condition`, a bool tensor of one element, is false;
    where it is true, they are the values `instead`, one for each.

    All three are outputs of the graph by name, and are outputs no longer afterwards. The nodes that
    nothing but `values` needs move into a branch. Condition and `instead` must not depend on
    `values`.
    """
    graph = model.graph
    maker: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
    outputs = [
        output for output in graph.output if output.name not in {*instead, *values, condition}
    ]
    ends = [condition, *instead]
    always = {id(node) for node in _needed(maker, ends)}
    always |= {id(node) for node in _needed(maker, [output.name for output in outputs], values)}
    branch = [node for node in _needed(maker, values) if id(node) not in always]
    types = {output.name: output.type for output in graph.output}
    names = {name: f"{name}_searched" for name in values}
    for node in branch:  # a branch has names of its own
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    same = [f"{name}_kept" for name in values]
    keep = [
        helper.make_node("Identity", [old], [new]) for old, new in zip(instead, same, strict=True)
    ]
    decide = helper.make_node(
        "If",
        [condition],
        list(values),
        then_branch=_graph("keep", keep, same, [types[name] for name in values]),
        else_branch=_graph("search", branch, [*names.values()], [types[name] for name in values]),
    )
    maker |= dict.fromkeys(values, decide)
    wanted = [output.name for output in outputs]
    nodes = list(_needed(maker, wanted))
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs)


def _graph(
    name: str, nodes: Sequence[NodeProto], outputs: Sequence[str], types: Sequence[onnx.TypeProto]
) -> onnx.GraphProto:
    infos = [
        onnx.ValueInfoProto(name=output, type=kind)
        for output, kind in zip(outputs, types, strict=True)
    ]
    return helper.make_graph(list(nodes), name, [], infos)


def _needed(
    maker: Maker,
    names: Sequence[str],
    without: Collection[str] = (),
) -> Iterator[NodeProto]:
    """The nodes that compute `names`, each after those it needs, without what is needed only for
    the tensors `without`.
    """
    waiting: list[tuple[NodeProto, bool]] = []
    done: set[int] = set()

    def wait_for(tensors: Sequence[str]) -> None:
        waiting.extend(
            (maker[name], False)
            for name in reversed(tensors)
            if name in maker and name not in without
        )

    wait_for(names)
    while waiting:
        node, is_ready = waiting.pop()
        if id(node) in done:
            continue
        if is_ready:
            done.add(id(node))
            yield node
            continue
        waiting.append((node, True))
        wait_for([*node.input, *_captured(node)])


def _captured(node: NodeProto) -> list[str]:
    """What the branches of an If use of the graph around it."""
    branches = [attribute.g.node for attribute in node.attribute if attribute.HasField("g")]
    made = {name for branch in branches for inner in branch for name in inner.output}
    used = [name for branch in branches for inner in branch for name in inner.input]
    return [name for name in used if name not in made]
