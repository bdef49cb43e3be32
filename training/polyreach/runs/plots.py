"""Plots of trained policies: the weights that each task has of its own, and robots with legs in
motion.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyreach.envs.legged.legged import LeggedConfig, LeggedEnv
from polyreach.envs.legged.render import render_states
from polyreach.errors import UserError, check_range
from polyreach.networks.per_task_weights import SplitActor, SplitMLP
from polyreach.networks.policy import Policy
from polyreach.plotting import file_pyplot
from polyreach.runs.trained_policy import read_run


def draw_run(folder: Path, out: Path, start_s: float, every_s: float, frames: int) -> list[Path]:
    """Draw what there is to draw of the run in `folder` into the folder `out`; returns the files.

    Raises RunError and UserError if there is no such run, if there is nothing to draw, or for times
    and numbers that no picture can have.
    """
    check_range("start", start_s, 0.0)
    check_range("every", every_s, 1e-3)
    check_range("frames", frames, 1, 40)
    run = read_run(str(folder))
    actor = run.actor
    name, written = folder.resolve().name, []
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(actor, SplitActor):
        written.append(out / f"{name}-split.png")
        title = f"{name}: weights that each task has of its own"
        draw_split(actor, title, written[-1])
    settings = run.env_config
    if isinstance(settings, LeggedConfig):
        written.append(out / f"{name}-motion.png")
        env = LeggedEnv(run.env, len(run.tasks), settings)
        draw_motion(actor, env, start_s, every_s, frames, written[-1])
    if not written:
        raise UserError(
            f"nothing to draw of '{folder}': its method {run.method} splits no weights, and "
            f"'{run.env}' has no legs"
        )
    return written


class SplitPart(NamedTuple):
    """A part of a policy's weights, and which of them are split."""

    name: str
    split: NDArray[np.bool_]  # (units before, units after), one row of biases or deviations


def split_parts(net: SplitMLP) -> list[SplitPart]:
    """The layers of a network in turn; the last part are the standard deviations."""
    rows = [part[0] for part in net.layers(net.split[None])]
    layers = (len(rows) - 1) // 2
    names = [*(f"layer {number + 1}" for number in range(layers - 1)), "output"]
    kinds = [f"{name}, {kind}" for name in names for kind in ("weights", "biases")]
    rows[-1] = rows[-1][None]
    return [
        SplitPart(name, row.numpy())
        for name, row in zip([*kinds, "standard deviations"], rows, strict=True)
    ]


def draw_split(actor: SplitActor, title: str, path: Path) -> None:
    """A picture of each layer: dark are the weights that each task has of its own."""
    pyplot = file_pyplot()
    parts = [part for part in split_parts(actor.net) if part.split.size]
    weights = [part for part in parts if len(part.split) > 1]
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(10, 7), layout="constrained")
    upper.axis("off")
    grid = upper.get_subplotspec().subgridspec(1, len(weights))
    for place, part in zip(grid, weights, strict=True):
        panel = figure.add_subplot(place)
        panel.imshow(part.split, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        before, after = part.split.shape
        panel.set(title=f"{part.name}\n{before} x {after}", xlabel="unit after it", xticks=[])
        panel.set(ylabel="unit before it", yticks=[])
    shares = [100 * part.split.mean() for part in parts]
    bars = lower.bar(range(len(parts)), shares, color="C0")
    lower.bar_label(bars, [f"{share:.0f} %" for share in shares])
    labels = [part.name.replace(", ", "\n") for part in parts]
    lower.set_xticks(range(len(parts)), labels, fontsize="small")
    lower.axhline(100 * float(actor.net.split.float().mean()), color="0.5", linestyle="--")
    lower.set(ylabel="split [%], dashed: of all", ylim=(0, 110))
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


@torch.no_grad()
def draw_motion(
    policy: Policy, env: LeggedEnv, start_s: float, every_s: float, frames: int, path: Path
) -> None:
    """A row of pictures for each task: `frames` of them from `start_s` on, `every_s` apart [s].

    Raises UserError where there is no OpenGL (see render_states).
    """
    pyplot = file_pyplot()
    period = env.models[0].opt.timestep * env.config.frame_skip  # [s]
    first, stride = math.ceil(start_s / period), max(1, round(every_s / period))
    obs, states = env.reset(0), []
    for number in range(first + stride * (frames - 1) + 1):
        if number >= first and (number - first) % stride == 0:
            states.append(env.states[:, 0])
        obs = env.step(policy.mean_action(obs)).obs
    shown = torch.stack(states, dim=1)  # (T, frames, S)
    size = (1.6 * frames, 2.1 * env.tasks)
    figure, panels = pyplot.subplots(
        env.tasks, frames, figsize=size, squeeze=False, layout="constrained"
    )
    for task, (row, model) in enumerate(zip(panels, env.models, strict=True)):
        pictures = render_states(model, shown[task], 240, 300)
        for panel, picture, state in zip(row, pictures, shown[task], strict=True):
            panel.imshow(picture)
            panel.set(xticks=[], yticks=[], xlabel=f"{state[0]:.2f} s, x = {state[1]:.2f} m")
            panel.xaxis.label.set_size("small")
        row[0].set_ylabel(env.task_names[task])
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
