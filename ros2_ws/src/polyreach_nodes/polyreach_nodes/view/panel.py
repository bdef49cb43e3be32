"""The panel of the page: state, buttons, goals on and off, errors, speed and loop times."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from html import escape
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray
from viser import uplot

from polyreach_nodes.client.topics import CLEAR_GOALS, HALT, RESUME
from polyreach_nodes.view.events import Choose, Event, Post, Press, Speed, Switch, UsePolicy
from polyreach_nodes.view.program import PROGRAMS
from polyreach_nodes.view.shapes import Colour

PLOT_S = 20.0  # [s] of errors in the plot
TOPS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5)  # [mm] ends of its axis
STATE_COLOURS = {
    "ACTIVE": "#15803d",
    "BLOCKED": "#b45309",
    "OSCILLATING": "#b45309",
    "IDLE": "#2563eb",
    "WAITING": "#b45309",
    "STALE": "#c2410c",
    "HALTED": "#b91c1c",
    "FAULT": "#b91c1c",
}
LAST = 1e6  # place in the panel, below that of obstacles
OTHER_COLOUR = "#4b5563"
TEXT = "padding:0 0.75em 0.3em;font-size:0.85em;line-height:1.45"

Vector = NDArray[np.float64]


class Panel:
    """Controls and figures of all browsers; E effectors. Every use of a control posts an event."""

    def __init__(
        self,
        server: viser.ViserServer,
        effectors: Sequence[str],
        colours: Sequence[Colour],
        frame: str,
        post: Post,
        oriented: bool = False,
        methods: Sequence[str] = (),
    ) -> None:
        """frame: of the goals; oriented: whether any goals have an orientation; methods: whose
        policies there are.
        """
        self._effectors = effectors
        self._css = [f"rgb{colour}" for colour in colours]
        self._frame = frame
        self._unit = ", deg" if oriented else ""
        self._post = post
        self._texts: dict[str, str] = {}
        self._errors = np.empty((0, 1 + len(effectors)))  # time [s], errors [mm]
        self._top = TOPS[0]
        gui = server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.main_panel.dock_right()
        self._html = {"state": gui.add_html("")}
        for name, label, colour, hint in (
            (HALT, "Halt", "red", "stop the robot until Resume"),
            (RESUME, "Resume", "green", "end a halt or a fault"),
            (CLEAR_GOALS, "Clear goals", "gray", "clear the goals of all effectors"),
        ):
            button = gui.add_button(label, color=colour, hint=hint)  # type: ignore[arg-type]
            button.on_click(self._poster(partial(_pressed, name)))
        self._program = gui.add_dropdown(
            "goals", PROGRAMS, hint="who sets the goals; dragging one is by hand again"
        )
        self._program.on_update(self._poster(lambda event: Choose(str(event.target.value))))
        self._methods = tuple(methods)
        self._policy = gui.add_dropdown(
            "policy",
            self._methods or ("",),
            visible=len(self._methods) > 1,
            hint="method of the shipped policy; the robot stops while it is loaded",
        )
        self._policy.on_update(self._poster(lambda event: UsePolicy(str(event.target.value))))
        self._html["score"] = gui.add_html("")
        self._switches = []
        for index, effector in enumerate(effectors):
            switch = gui.add_checkbox(
                f"{effector}: goal on", False, hint=f"drag the handle of '{effector}' to set it"
            )
            switch.on_update(self._poster(partial(_switched, index)))
            self._switches.append(switch)
        self._html["goals"] = gui.add_html("")
        self._plot = gui.add_uplot(
            tuple(np.zeros(1) for _ in range(1 + len(effectors))),
            (
                uplot.Series(label="time [s]"),
                *(
                    uplot.Series(label=name, stroke=colour, width=2)
                    for name, colour in zip(effectors, self._css, strict=True)
                ),
            ),
            title="distance to goal [mm] over time [s]",
            scales=_scales(TOPS[0]),
            aspect=1.6,
        )
        self._speed = gui.add_slider(
            "speed scale", 0.0, 1.0, 0.01, 1.0, hint="share of the policy's speed, 0 to 1"
        )
        self._speed.on_update(self._poster(lambda event: Speed(float(event.target.value))))
        self._html["timing"] = gui.add_html("", order=LAST)

    def _poster(self, make: Callable[[Any], Event]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        """A callback that posts an event, in the order of events, if a browser caused it."""

        async def on_event(event: Any) -> None:
            if event.client_id is not None:
                self._post(make(event))

        return on_event

    def show_state(self, state: str, reason: str, notes: Sequence[str]) -> None:
        """Show the controller's state as text and colour, the reason for it, and notes below."""
        colour = STATE_COLOURS.get(state, OTHER_COLOUR)
        lines = [
            f'<div style="background:{colour};color:white;border-radius:4px;padding:0.4em 0.75em;'
            f'margin:0.25em 0.75em;font-weight:600">{escape(state)}'
            f'<span style="font-weight:400"> {escape(reason)}</span></div>'
        ]
        lines += [
            f'<div style="{TEXT};color:#b91c1c">{escape(note)}</div>' for note in notes if note
        ]
        self._write("state", "".join(lines))

    def show_goals(
        self,
        on: Sequence[bool],
        held: Sequence[bool],
        goals: Sequence[Vector | None],
        errors: Sequence[float],
        angles: Sequence[float],
    ) -> None:
        """Show per effector whether its goal is on, whether that is a hold, the goal [m], and the
        errors [m or nan] and [rad or nan].
        """
        rows = []
        for index, goal in enumerate(goals):
            if self._switches[index].value != on[index]:
                self._switches[index].value = on[index]  # type: ignore[misc]
            position = "no goal" if goal is None else " ".join(f"{value:.3f}" for value in goal)
            error = "" if np.isnan(errors[index]) else f"{1e3 * errors[index]:.1f}"
            error += "" if np.isnan(angles[index]) else f", {np.degrees(angles[index]):.1f}"
            rows.append(
                '<tr style="white-space:nowrap;vertical-align:top">'
                f'<td><span style="color:{self._css[index]}">&#9679;</span> '
                f"{escape(self._effectors[index])}{'<br>(held)' if held[index] else ''}</td>"
                f'<td style="padding:0 0.6em">{position}</td>'
                f'<td style="text-align:right">{error}</td></tr>'
            )
        head = (
            "<tr><th>effector</th>"
            f'<th style="padding:0 0.6em">goal x y z [m, {escape(self._frame)}]</th>'
            f'<th style="text-align:right">error [mm{self._unit}]</th></tr>'
        )
        style = "width:100%;text-align:left;font-variant-numeric:tabular-nums"
        table = f'<table style="{style}">{head}{"".join(rows)}</table>'
        self._write("goals", f'<div style="{TEXT}">{table}</div>')

    def plot(self, now_s: float, errors: Sequence[float]) -> None:
        """Add errors (E,) [m, nan without a goal] at a time [s] to the plot."""
        row = np.array([[now_s, *(1e3 * error for error in errors)]])
        recent = self._errors[self._errors[:, 0] > now_s - PLOT_S]
        self._errors = np.concatenate([recent, row])
        times = self._errors[:, 0] - now_s
        top = _top(self._errors[:, 1:])
        if top != self._top:
            self._top, self._plot.scales = top, _scales(top)
        self._plot.data = (times, *self._errors[:, 1:].T.copy())

    def show_timing(self, values: dict[str, float]) -> None:
        """Show quantiles [ms] with names such as 'loop period p99 [ms]', a row per quantity."""
        kinds: dict[str, list[str]] = {}
        for name, value in values.items():
            kind, _, quantile = name.removesuffix(" [ms]").rpartition(" ")
            kinds.setdefault(kind, []).append(f"{escape(quantile)} {value:.1f}")
        rows = "".join(
            f"<tr><td>{escape(kind)} [ms]</td><td>{'</td><td>'.join(cells)}</td></tr>"
            for kind, cells in kinds.items()
        )
        style = "width:100%;font-size:0.9em;font-variant-numeric:tabular-nums"
        self._write("timing", f'<div style="{TEXT}"><table style="{style}">{rows}</table></div>')

    def show_program(self, kind: str, score: str) -> None:
        """Show which of PROGRAMS sets the goals, and what became of them."""
        if self._program.value != kind:
            self._program.value = kind  # type: ignore[misc]
        self._write("score", f'<div style="{TEXT}">{escape(score)}</div>' if score else "")

    def show_method(self, method: str) -> None:
        """Show whose policy the controller uses."""
        if method in self._methods and self._policy.value != method:
            self._policy.value = method  # type: ignore[misc]

    def show_speed(self, scale: float) -> None:
        """Move the slider to a speed scale, 0 to 1."""
        if abs(self._speed.value - scale) > 1e-9:
            self._speed.value = scale  # type: ignore[misc]

    def _write(self, name: str, text: str) -> None:
        if self._texts.get(name) != text:
            self._texts[name] = self._html[name].content = text


def _pressed(name: str, event: Any) -> Press:
    return Press(name)


def _switched(index: int, event: Any) -> Switch:
    return Switch(index, bool(event.target.value))


def _top(errors: Vector) -> float:
    """The first of TOPS [mm] that no error exceeds; nan is ignored."""
    highest = float(np.nanmax(errors)) if np.isfinite(errors).any() else 0.0
    return next((top for top in TOPS if top >= highest), TOPS[-1])


def _scales(top: float) -> dict[str, uplot.Scale]:
    """Axes of the plot, from zero to top [mm]; uPlot cannot find a range of values with nan."""
    return {
        "x": uplot.Scale(time=False, auto=False, range=(-PLOT_S, 0.0)),
        "y": uplot.Scale(auto=False, range=(-0.03 * top, 1.06 * top)),
    }
