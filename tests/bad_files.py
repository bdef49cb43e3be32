"""Robot and policy files that exhaust a program which loads them without bounds."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

Make = Callable[[Path], None]

ROBOT_YAML = """\
name: {name}
model: robot.xml
base_frame: base
control_rate: 50.0
effectors:
  tip: {{site: tip}}
joints:
  first: {{velocity: 1.0, acceleration: 10.0}}
"""
ROBOT_XML = """\
<mujoco>
  {head}
  <worldbody>
    <body name="base">
      <body name="link">
        <joint name="first" axis="0 0 1" range="-90 90" limited="true"/>
        <geom type="capsule" fromto="0.1 0 0 0.4 0 0" size="0.02"/>
        <site name="tip" pos="0.5 0 0"/>
        {inside}
      </body>
    </body>
  </worldbody>
  {tail}
</mujoco>
"""


def write_robot(
    folder: Path,
    text: str = "",
    name: str = "one_joint",
    head: str = "",
    inside: str = "",
    tail: str = "",
) -> Path:
    """Write a robot of one joint; `text` replaces its yaml, the others are inserted in its MJCF."""
    folder.mkdir(parents=True, exist_ok=True)
    model = ROBOT_XML.format(head=head, inside=inside, tail=tail)
    (folder / "robot.xml").write_text(model, encoding="utf-8")
    path = folder / "robot.yaml"
    path.write_text(text or ROBOT_YAML.format(name=name), encoding="utf-8")
    return path


def alias_bomb(levels: int = 30) -> str:
    """A `name` that expands to 9 ** levels strings through its aliases."""
    lines = ["name:", "  - &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n" + ROBOT_YAML.format(name="x").partition("\n")[2]


def merge_bomb(levels: int = 30) -> str:
    """Mappings that each merge the previous one nine times: 9 ** levels keys in total."""
    lines = ["home:", "  m0: &m0 {first: 0.0}"]
    for level in range(1, levels):
        merged = ", ".join([f"*m{level - 1}"] * 9)
        lines.append(f"  m{level}: &m{level} {{<<: [{merged}]}}")
    return ROBOT_YAML.format(name="one_joint") + "\n".join(lines) + "\n"


def deep_yaml(levels: int = 3000) -> str:
    """A `name` of nested lists."""
    return ROBOT_YAML.format(name="[" * levels + "]" * levels)


REPLICATE = '<replicate count="1000" offset="0 0 1">'
REPLICATES = REPLICATE * 4 + '<geom size="0.01"/>' + "</replicate>" * 4
JOINTS = "<joint/>" * 60_000  # in a chain: their inertia matrix has 1.8e9 elements
TEXTURE = (
    '<asset><texture name="t" type="2d" builtin="flat" width="100000" height="100000"/></asset>'
)
ENTITIES = (
    "<!DOCTYPE mujoco [<!ENTITY a0 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    + "]>"
)


def write_policy(
    path: Path,
    source: Path,
    nodes: Sequence[onnx.NodeProto] = (),
    initializers: Sequence[onnx.TensorProto] = (),
    change: Callable[[onnx.ModelProto], object] | None = None,
) -> None:
    """Copy the policy file `source` and append nodes.

    The original `joint_vel` becomes `planned_vel`, from which the nodes compute `joint_vel`.
    """
    model = onnx.load(source)
    if nodes:
        for node in model.graph.node:
            node.output[:] = ["planned_vel" if n == "joint_vel" else n for n in node.output]
            node.input[:] = ["planned_vel" if n == "joint_vel" else n for n in node.input]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(initializers)
    if change is not None:
        change(model)
    onnx.save(model, path)


def int64s(name: str, *values: int) -> onnx.TensorProto:
    """A vector of integers."""
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def scalar(name: str, kind: int, value: float) -> onnx.TensorProto:
    """A tensor without axes."""
    return helper.make_tensor(name, kind, [], [value])


def endless_loop() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A Loop of 2 ** 62 iterations that returns `planned_vel`."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, None),
        ],
        [value("go_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("Loop", ["rounds", "yes", "planned_vel"], ["joint_vel"], body=body)
    rounds, yes = scalar("rounds", TensorProto.INT64, 2**62), scalar("yes", TensorProto.BOOL, 1)
    return [node], [rounds, yes]


Parts = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def never_taken(parts: Parts) -> Parts:
    """An If that always returns `planned_vel`; its else branch computes `joint_vel` by `parts`."""

    def branch(name: str, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> Any:
        out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out], weights)

    same = [helper.make_node("Identity", ["planned_vel"], ["same_vel"])]
    nodes, weights = parts
    for node in nodes:  # the If itself has the output joint_vel
        node.output[:] = ["other_vel" if name == "joint_vel" else name for name in node.output]
    node = helper.make_node(
        "If",
        ["always"],
        ["joint_vel"],
        then_branch=branch("then", same, []),
        else_branch=branch("else", nodes, weights),
    )
    return [node], [scalar("always", TensorProto.BOOL, 1)]


def plus_mean_of(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that add the mean of the output `huge` of `node`."""
    return [
        node,
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=0),
        helper.make_node("Add", ["planned_vel", "mean"], ["joint_vel"]),
    ]


def mean_of_all() -> Parts:
    """One number instead of one for each joint."""
    return [helper.make_node("ReduceMean", ["planned_vel"], ["joint_vel"], keepdims=1)], []


def huge_at_load() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """40 GB of zeros from constants."""
    node = helper.make_node("ConstantOfShape", ["shape"], ["huge"])
    return plus_mean_of(node), [int64s("shape", 100_000, 100_000)]


def huge_at_run(kind: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """40 GB computed from the velocities, by Expand or Tile."""
    if kind == "Expand":
        node = helper.make_node("Expand", ["planned_vel", "shape"], ["huge"])
        return plus_mean_of(node), [int64s("shape", 1_250_000_000, 1, 8)]
    node = helper.make_node("Tile", ["planned_vel", "repeats"], ["huge"])
    return plus_mean_of(node), [int64s("repeats", 1, 1_250_000_000)]


def huge_for_some_input() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Zeros, 1e9 times the largest velocity in number."""
    nodes = [
        helper.make_node("ReduceMax", ["planned_vel"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "many"], ["scaled"]),
        helper.make_node("Abs", ["scaled"], ["size"]),
        helper.make_node("Cast", ["size"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["shape"]),
        *plus_mean_of(helper.make_node("ConstantOfShape", ["shape"], ["huge"])),
    ]
    return nodes, [scalar("many", TensorProto.FLOAT, 1e9), int64s("one", 1)]


def slow(
    size: int = 512, products: int = 40, kind: int = TensorProto.FLOAT
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Matrix products of size ** 3 multiplications each; integers take far longer."""
    nodes = [
        helper.make_node("ReduceMean", ["planned_vel"], ["level"], keepdims=0),
        helper.make_node("Cast", ["level"], ["level_as"], to=kind),
        helper.make_node("Expand", ["level_as", "square"], ["p0"]),
        *(helper.make_node("MatMul", [f"p{n}", "p0"], [f"p{n + 1}"]) for n in range(products)),
        helper.make_node("ReduceMax", [f"p{products}"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["largest_vel"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["planned_vel", "largest_vel"], ["joint_vel"]),
    ]
    return nodes, [int64s("square", size, size)]


def custom_domain() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """An operator of a contrib domain."""
    return [helper.make_node("Gelu", ["planned_vel"], ["joint_vel"], domain="com.microsoft")], []


def nested_functions(model: onnx.ModelProto) -> None:
    """Functions that each call the previous one ten times: 1e12 nodes after inlining."""
    model.opset_import.append(helper.make_opsetid("f", 1))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    inner = [helper.make_node("Identity", ["x"], ["y"])]
    for level in range(12):
        model.functions.append(
            helper.make_function("f", f"f{level}", ["x"], ["y"], inner, opset_imports=opsets)
        )
        names = ["x", *(f"x{n}" for n in range(9)), "y"]
        inner = [helper.make_node(f"f{level}", [a], [b], domain="f") for a, b in pairwise(names)]
    for node in model.graph.node:
        node.output[:] = ["planned_vel" if n == "joint_vel" else n for n in node.output]
    model.graph.node.append(helper.make_node("f11", ["planned_vel"], ["joint_vel"], domain="f"))


def external_data(model: onnx.ModelProto) -> None:
    """A weight that is read from another file."""
    tensor = model.graph.initializer[0]
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def sparse_weight(model: onnx.ModelProto) -> None:
    """A sparse weight of one value, which is 40 GB when dense."""
    values = helper.make_tensor("dense", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [10_000_000_000])
    model.graph.sparse_initializer.append(sparse)


def many_nodes(model: onnx.ModelProto) -> None:
    """A chain of 100,000 nodes."""
    for node in model.graph.node:
        node.output[:] = ["n0" if n == "joint_vel" else n for n in node.output]
    names = [*(f"n{n}" for n in range(100_000)), "joint_vel"]
    model.graph.node.extend(helper.make_node("Neg", [a], [b]) for a, b in pairwise(names))


def metadata_of_size(count: int, length: int) -> Callable[[onnx.ModelProto], None]:
    """Add `count` keys with values of `length` characters."""

    def change(model: onnx.ModelProto) -> None:
        for number in range(count):
            model.metadata_props.add(key=f"extra_{number}", value=json.dumps("x" * length))

    return change


def huge_weight(model: onnx.ModelProto) -> None:
    """A weight that declares 40 GB and contains no data."""
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[100_000, 100_000])
    )


def empty_nodes(path: Path) -> None:
    """8 million empty nodes of two bytes: a gigabyte in memory when parsed."""
    nodes = b"\x0a\x00" * 8_000_000
    length, varint = len(nodes), b""
    while length > 127:
        varint += bytes([length & 127 | 128])
        length >>= 7
    path.write_bytes(b"\x08\x0a\x3a" + varint + bytes([length]) + nodes)


# function that writes a bad policy from a good one (path, source), and part of the error message
Change = tuple[Callable[[Path, Path], None], str]


def _of(parts: tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]) -> Callable[..., None]:
    return lambda path, source: write_policy(path, source, *parts)


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[..., None]:
    return lambda path, source: write_policy(path, source, change=change)


BAD_POLICIES: dict[str, Change] = {
    "an endless loop": (_of(endless_loop()), "operator 'Loop' has a graph of its own"),
    "an endless loop in a branch": (
        _of(never_taken(endless_loop())),
        "operator 'Loop' has a graph of its own",
    ),
    "a branch in a branch in a branch in a branch": (
        _of(never_taken(never_taken(never_taken(never_taken(endless_loop()))))),
        "has an If within others that are 3 deep",
    ),
    "a branch of another shape": (
        _of(never_taken(mean_of_all())),
        "the branches of an If give 'joint_vel' the shapes (1, 8) and (1, 1), expected the same",
    ),
    "40 GB in a branch in a branch": (
        _of(never_taken(never_taken(huge_at_load()))),
        "elements in all, expected at most 33554432",
    ),
    "40 GB in a branch": (
        _of(never_taken(huge_at_load())),
        "elements in all, expected at most 33554432",
    ),
    "40 GB for some input in a branch": (
        _of(never_taken(huge_for_some_input())),
        "'ConstantOfShape' has no fixed shape",
    ),
    "40 GB at load": (_of(huge_at_load()), "elements in all, expected at most 33554432"),
    "40 GB by Expand": (_of(huge_at_run("Expand")), "elements in all"),
    "40 GB by Tile": (_of(huge_at_run("Tile")), "elements in all"),
    "40 GB for some input": (_of(huge_for_some_input()), "'ConstantOfShape' has no fixed shape"),
    "40 GB of one sparse value": (_changed(sparse_weight), "sparse"),
    "40 GB without data": (_changed(huge_weight), "weights of 100"),
    "a custom operator": (_of(custom_domain()), "'com.microsoft.Gelu'"),
    "functions of functions": (_changed(nested_functions), "12 functions"),
    "weights in another file": (_changed(external_data), "in another file"),
    "100,000 nodes": (_changed(many_nodes), "nodes, expected at most"),
    "8 million empty nodes": (lambda path, _: empty_nodes(path), ""),
    "54 MB of metadata": (_changed(metadata_of_size(60, 900_000)), "policy metadata: found 54"),
    "1 MB of keys": (_changed(metadata_of_size(70_000, 1)), "policy metadata: found"),
}
