"""The part of the panel that adds and removes obstacles."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import viser

from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.view.events import AddObstacle, Event, Post, RemoveObstacle
from polyreach_nodes.view.obstacles import MOST, SHAPES, SIZES

STEP, FIRST_SIZE = 0.01, 0.1  # [m] of the slider
TEXT = "padding:0 0.75em 0.3em;font-size:0.85em;line-height:1.45"
AVOIDS = "The policy goes around obstacles."
STOPS = "The policy does not take obstacles: the robot only stops before them."


class ObstaclePanel:
    """Buttons of all browsers; every use posts an event."""

    def __init__(self, server: viser.ViserServer, post: Post) -> None:
        self._gui, self._post = server.gui, post
        self._folder = server.gui.add_folder("obstacles")
        self._remove: dict[int, viser.GuiButtonHandle] = {}
        with self._folder:
            self._size = server.gui.add_slider(
                "size [m]",
                *SIZES,
                STEP,
                FIRST_SIZE,
                hint="side of a new box, diameter of a new sphere",
            )
            self._add = server.gui.add_button_group("add", tuple(SHAPES), hint="then drag it")
            self._add.on_click(self._poster(self._addition))
            self._note = server.gui.add_html("")
        self._text = ""

    def _addition(self) -> AddObstacle:
        return AddObstacle(str(self._add.value), float(self._size.value))

    def _poster(self, make: Callable[[], Event]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def on_click(event: Any) -> None:
            if event.client_id is not None:
                self._post(make())

        return on_click

    def show(self, own: Mapping[int, Obstacle], others: int, avoids: bool) -> None:
        """Show a button for each of the page's obstacles, the number of others, and what the
        policy does about them.
        """
        for number in self._remove.keys() - own.keys():
            self._remove.pop(number).remove()
        for number, obstacle in own.items():
            if number not in self._remove:
                shape = next(name for name, kind in SHAPES.items() if kind is obstacle.shape)
                with self._folder:
                    button = self._gui.add_button(f"Remove {shape} {number}", color="gray")
                button.on_click(self._poster(partial(RemoveObstacle, number)))
                self._remove[number] = button
        if self._add.disabled != (full := len(own) >= MOST):
            self._add.disabled = full
        lines = [AVOIDS if avoids else STOPS] if own or others else []
        lines += [f"Grey: {others} of other nodes, which this page cannot move."] if others else []
        text = f'<div style="{TEXT}">{"<br>".join(lines)}</div>' if lines else ""
        if text != self._text:
            self._text = self._note.content = text
