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
    chosen: tuple[str, ...] = ()  # what is `values` or `instead`; by default it is called `values`

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (self.condition, *self.instead, *self.values, *self.chosen)


def compute_unless(
    model: onnx.ModelProto,
    condition: str,
    instead: Sequence[str],
    values: Sequence[str],
    chosen: Sequence[str] = (),
) -> None:
    """Let `values` be computed only where `condition`, a bool tensor of one element, is false, and
    `instead` only where it is true, one for each.

    The tensors `chosen`, by default `values`, become one or the other. All are outputs of the graph
    by name, and are outputs no longer afterwards. The nodes that nothing else needs move into the
    two branches. Neither the condition nor `instead` and `values` may depend on `chosen`.
    """
    graph, chosen = model.graph, chosen or values
    maker: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
    ends = {condition, *instead, *values, *chosen}
    types = {output.name: output.type for output in graph.output}
    outputs = [output for output in graph.output if output.name not in ends]
    wanted = [output.name for output in outputs]
    always = {id(node) for node in _needed(maker, [condition])}
    always |= {id(node) for node in _needed(maker, wanted, chosen)}
    needed = [{id(node) for node in _needed(maker, names)} for names in (instead, values)]
    always |= needed[0] & needed[1]
    branches = [
        _branch(name, maker, always, names, chosen, types)
        for name, names in (("keep", instead), ("search", values))
    ]
    decide = helper.make_node(
        "If", [condition], list(chosen), then_branch=branches[0], else_branch=branches[1]
    )
    maker |= dict.fromkeys(chosen, decide)
    nodes = list(_needed(maker, wanted))
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs)


def _branch(
    name: str,
    maker: Maker,
    always: Collection[int],
    values: Sequence[str],
    chosen: Sequence[str],
    types: Mapping[str, onnx.TypeProto],
) -> onnx.GraphProto:
    """The nodes that compute `values` but those that are computed `always`."""
    nodes = [node for node in _needed(maker, values) if id(node) not in always]
    # a branch has names of its own
    inner = {value: f"{value}_inner" for value in values if value in chosen}
    for node in nodes:
        node.input[:] = [inner.get(entry, entry) for entry in node.input]
        node.output[:] = [inner.get(entry, entry) for entry in node.output]
    outputs = [f"{entry}_{name}" for entry in chosen]
    nodes += [
        helper.make_node("Identity", [inner.get(value, value)], [output])
        for value, output in zip(values, outputs, strict=True)
    ]
    infos = [
        onnx.ValueInfoProto(name=output, type=types[entry])
        for output, entry in zip(outputs, chosen, strict=True)
    ]
    return helper.make_graph(nodes, name, [], infos)


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
