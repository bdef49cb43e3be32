"""polyreach draw: draw the policy of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console
from polyreach.runs.plots import draw_run


@dataclass(frozen=True)
class DrawOptions:
    """Draw the policy of a run: the weights that are split by task (RUN-split.png), and the motion
    of robots with legs (RUN-motion.png).

    The motion needs OpenGL; without a display, set MUJOCO_GL=osmesa or MUJOCO_GL=egl.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path = Path()
    """Folder for the plots."""
    start: float = 2.0
    """Time of the first frame of the motion [s]."""
    every: float = 0.08
    """Time between two frames [s]."""
    frames: int = 8
    """Number of frames."""


def run(words: Sequence[str]) -> int:
    """polyreach draw RUN."""
    options = parse_options(DrawOptions, words, prog="polyreach draw")
    written = draw_run(options.run, options.out, options.start, options.every, options.frames)
    console.print("wrote " + " and ".join(str(file) for file in written), soft_wrap=True)
    return 0
