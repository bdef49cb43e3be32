"""Graphs in which a part is computed only where a condition does not hold, made by hand."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from polyreach.deploy.branches import compute_unless


def graph(outputs: dict[str, int]) -> onnx.ModelProto:
    """y = 2 x, kept = y + 1, skip = all x > 0; index = 0 or 1 (out of range for x <= -100);
    found = x[index] + y, then out = 10 found and both = found + kept.
    """
    constants = {"two": 2.0, "one": 1.0, "zero": 0.0, "ten": 10.0}
    initializers = [
        *(helper.make_tensor(name, 1, [1], [value]) for name, value in constants.items()),
        helper.make_tensor("axes", TensorProto.INT64, [1], [0]),
    ]
    node = helper.make_node
    nodes = [
        node("Mul", ["x", "two"], ["y"]),
        node("Add", ["y", "one"], ["kept"]),
        node("ReduceMin", ["x", "axes"], ["least"], keepdims=1),
        node("Greater", ["least", "zero"], ["skip"]),
        node("Cast", ["least"], ["index"], to=TensorProto.INT64),
        node("Gather", ["x", "index"], ["taken"]),
        node("Add", ["taken", "y"], ["sum"]),
        node("Identity", ["sum"], ["found"]),
        node("Mul", ["found", "ten"], ["out"]),
        node("Add", ["found", "kept"], ["both"]),
    ]
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [info("x", 1, ["n"])],
        [info(name, kind, ["n"]) for name, kind in outputs.items()],
        initializers,
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(made, opset_imports=opset, ir_version=9)


OUTPUTS = {"out": 1, "both": 1, "skip": TensorProto.BOOL, "kept": 1, "found": 1}


def run(model: onnx.ModelProto, x: list[float]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": np.array(x, np.float32)}), strict=True))


@pytest.fixture
def branched() -> onnx.ModelProto:
    model = graph(OUTPUTS)
    compute_unless(model, "skip", ["kept"], ["found"])
    onnx.checker.check_model(model, full_check=True)
    return model


def test_where_the_condition_does_not_hold_values_are_those_of_the_graph(
    branched: onnx.ModelProto,
) -> None:
    x = [-2.0, 3.0]
    plain, found = run(graph(OUTPUTS), x), run(branched, x)
    # x[-2] = -2; found = -2 + 2 x
    assert found["out"].tolist() == plain["out"].tolist() == [-60.0, 40.0]
    assert found["both"].tolist() == plain["both"].tolist() == [-9.0, 11.0]
    assert list(found) == ["out", "both"]


def test_where_it_holds_they_are_the_others(branched: onnx.ModelProto) -> None:
    # kept = 2 x + 1
    found = run(branched, [1.0, 5.0])
    assert found["out"].tolist() == [30.0, 110.0] and found["both"].tolist() == [6.0, 22.0]


def test_the_branch_is_not_computed_where_the_condition_holds(branched: onnx.ModelProto) -> None:
    # the index is out of range: 100 of 2
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(graph(OUTPUTS), [100.0, 200.0])
    assert run(branched, [100.0, 200.0])["out"].tolist() == [2010.0, 4010.0]
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(branched, [-100.0, 200.0])


def test_nodes_that_others_need_stay_outside_and_names_are_not_used_twice(
    branched: onnx.ModelProto,
) -> None:
    outside = [name for node in branched.graph.node for name in node.output]
    decide = next(node for node in branched.graph.node if node.op_type == "If")
    branches = {entry.name: entry.g for entry in decide.attribute}
    inside = [name for g in branches.values() for node in g.node for name in node.output]
    assert {"y", "kept", "least", "skip", "found"} <= {*outside}
    assert {"index", "taken", "sum"} <= {*inside}
    assert len({*outside, *inside}) == len(outside) + len(inside)
    assert len(branches["then_branch"].node) == 1


def test_a_value_may_be_needed_within_the_branch_of_another() -> None:
    model = graph({**OUTPUTS, "y": 1, "sum": 1})
    compute_unless(model, "skip", ["kept", "y"], ["found", "sum"])
    onnx.checker.check_model(model, full_check=True)
    assert run(model, [-2.0, 3.0])["out"].tolist() == [-60.0, 40.0]
    assert run(model, [1.0, 5.0])["out"].tolist() == [30.0, 110.0]


def test_a_decision_within_the_branch_of_another() -> None:
    model = graph({**OUTPUTS, "y": 1, "sum": 1})
    # the inner value is computed only where the outer one is, and the condition decides both
    compute_unless(model, "skip", ["y"], ["sum"])
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kind, ["n"])
        for name, kind in {"skip": TensorProto.BOOL, "kept": 1, "found": 1}.items()
        if name not in {output.name for output in model.graph.output}
    )
    compute_unless(model, "skip", ["kept"], ["found"])
    onnx.checker.check_model(model, full_check=True)
    top = [node for node in model.graph.node if node.op_type == "If"]
    inside = [node.op_type for entry in top[0].attribute for node in entry.g.node]
    assert len(top) == 1 and inside.count("If") == 1
    assert run(model, [-2.0, 3.0])["out"].tolist() == [-60.0, 40.0]
    assert run(model, [1.0, 5.0])["out"].tolist() == [30.0, 110.0]


def test_what_only_one_of_two_values_needs_is_computed_only_where_it_is_chosen() -> None:
    model = graph({"both": 1, "skip": TensorProto.BOOL, "y": 1, "sum": 1, "found": 1, "out": 1})
    # found = y or sum; what only `sum` needs is in one branch, and `both` stays outside
    compute_unless(model, "skip", ["y"], ["sum"], ["found"])
    onnx.checker.check_model(model, full_check=True)
    assert run(model, [-2.0, 3.0])["out"].tolist() == [-60.0, 40.0]
    # y = 2 x; the index that `sum` needs would be out of range
    assert run(model, [100.0, 200.0])["out"].tolist() == [2000.0, 4000.0]


def test_what_only_the_other_value_needs_moves_into_its_branch() -> None:
    model = graph({"skip": TensorProto.BOOL, "kept": 1, "found": 1, "out": 1})
    compute_unless(model, "skip", ["kept"], ["found"])
    decide = next(node for node in model.graph.node if node.op_type == "If")
    inside = {
        entry.name: {name for node in entry.g.node for name in node.output}
        for entry in decide.attribute
    }
    outside = {name for node in model.graph.node for name in node.output}
    assert "kept" in inside["then_branch"] and "sum" in inside["else_branch"]
    assert not {"kept", "sum"} & outside
    # both need y
    assert "y" in outside
    assert run(model, [1.0, 5.0])["out"].tolist() == [30.0, 110.0]
