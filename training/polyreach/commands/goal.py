"""polyreach goal: send a goal to a running controller."""

from collections.abc import Sequence

from polyreach.commands.nodes import import_nodes


def run(words: Sequence[str]) -> int:
    """polyreach goal EFFECTOR X Y Z."""
    return int(import_nodes("goal_node").main(["polyreach goal", *words]))
