"""The command line: `polyreach train|evaluate|export|draw|report|sweep|list|robot|demo|goal`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from rich.console import Console

from polyreach.errors import UserError
from polyreach_description import RobotError
from polyreach_description.closed_output import end_with_output

# module of polyreach.commands -> help; run(words) in it runs the command. Modules are imported when
# their command is called, because torch alone takes a second.
COMMANDS: dict[str, str] = {
    "train": "METHOD ENV: train a policy",
    "evaluate": "POLICY: measure a policy over many goals",
    "export": "RUN | least-squares ROBOT: write a policy, trained or not, to one ONNX file",
    "draw": "RUN: draw the policy of a run",
    "report": "EXPERIMENT...: train its runs, write its curves and its table",
    "sweep": "METHOD... ENV...: train every method on every environment with several seeds",
    "list": "list methods, environments, experiments, robots and policies",
    "robot": "new MODEL | check|show|urdf ROBOT: draft, check or show a robot",
    "demo": "[ROBOT] [--view]: simulator, controller and goals over ROS 2",
    "goal": "EFFECTOR X Y Z: send a goal to a running controller",
}


def usage() -> str:
    """What there is to call."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return (
        "usage: polyreach COMMAND [options]; `polyreach COMMAND --help` shows them\n"
        "       polyreach --version\n\n" + "\n".join(lines)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Known mistakes print one line, no traceback.

    Raises SystemExit with status 141 when nobody reads its output any more; `train`, `report` and
    `sweep` go on, because their results are files.
    """
    with end_with_output():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"polyreach {version('polyreach')}")
        return 0
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    if words[0] not in COMMANDS:
        errors.print(
            f"polyreach: unknown command '{words[0]}' (legal: {', '.join(COMMANDS)})", markup=False
        )
        return 2
    try:
        status: int = import_module(f"polyreach.commands.{words[0]}").run(words[1:])
        return status
    except (UserError, RobotError) as error:
        errors.print(f"polyreach {words[0]}: {error}", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
