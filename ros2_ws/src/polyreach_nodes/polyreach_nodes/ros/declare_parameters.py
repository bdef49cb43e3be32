"""Declare the parameters of a node from their class, and read them."""

from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from polyreach_nodes.parameter_spec import ParameterSpec, Settable, specs

P = TypeVar("P")


def declare_parameters(node: Node, kind: type[P]) -> P:
    """Declare every parameter of a class with its descriptor; returns their values.

    Raises what rclpy raises for values of another type or out of range.
    """
    for spec in specs(kind):
        default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
        unset = default == []  # ROS has no empty list of doubles
        kind_or_value = Parameter.Type.DOUBLE_ARRAY if unset else default
        node.declare_parameter(spec.name, kind_or_value, _descriptor(spec))
    return read_parameters(node, kind)


def read_parameters(node: Node, kind: type[P], **changes: Any) -> P:
    """The values that a node has now, with `changes` in place of some."""
    values = {}
    for spec in specs(kind):
        value = changes.get(spec.name, node.get_parameter_or(spec.name).value)
        if isinstance(spec.default, tuple):
            value = tuple(value or ())
        values[spec.name] = value
    return kind(**values)


def _descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=spec.description, read_only=spec.settable is Settable.START
    )
    if spec.range is not None:
        low, high = spec.range
        if isinstance(spec.default, int):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
