"""The package polyreach_nodes, which needs ROS 2; training does not."""

import importlib
from typing import Any

from polyreach.errors import UserError


def import_nodes(module: str) -> Any:
    """A module of polyreach_nodes. Raises UserError where there is no ROS 2."""
    try:
        return importlib.import_module(f"polyreach_nodes.{module}")
    except ImportError as error:
        raise UserError(
            f"the ROS 2 nodes cannot be imported ({error}): source a ROS 2 installation, or "
            "install the wheels with 'make setup'"
        ) from None
