"""The command line: `polyreach train|evaluate|export|draw|report|list|robot|demo|goal`."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from polyreach import commands, robot_commands, train_command

COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (train_command.train, "train a policy: polyreach train METHOD ENV"),
    "evaluate": (commands.evaluate, "measure a policy over many goals: polyreach evaluate POLICY"),
    "export": (commands.export, "write a run's policy to one ONNX file: polyreach export RUN"),
    "draw": (commands.draw, "pictures of a run's policy: polyreach draw RUN"),
    "report": (commands.report, "run an experiment, draw its curves and its table"),
    "list": (commands.list_all, "methods, environments, experiments, robots and shipped policies"),
    "robot": (robot_commands.robot, "polyreach robot check|show|urdf ROBOT"),
    "demo": (
        robot_commands.demo,
        "simulator, controller and goals over ROS 2: polyreach demo [ROBOT] [--view]",
    ),
    "goal": (
        robot_commands.goal,
        "send a goal to a running controller: polyreach goal EFFECTOR X Y Z",
    ),
}


def usage() -> str:
    """What there is to call."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return (
        "usage: polyreach COMMAND [options]; `polyreach COMMAND --help` tells more\n\n"
        + "\n".join(lines)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Known mistakes print one line, no traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    if words[0] not in COMMANDS:
        errors.print(
            f"polyreach: unknown command '{words[0]}' (legal: {', '.join(COMMANDS)})", markup=False
        )
        return 2
    try:
        return COMMANDS[words[0]][0](words[1:])
    except commands.USER_ERRORS as error:
        errors.print(f"polyreach {words[0]}: {error}", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
