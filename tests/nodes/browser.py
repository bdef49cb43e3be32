"""A headless Chromium, controlled by mouse events over its DevTools protocol."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from websockets.sync.client import connect

from polyreach_nodes.view.shapes import Camera

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
START_S = 30.0
ANSWER_S = 90.0  # a busy machine renders slowly
STEP_S = 0.05  # between two mouse moves


def find_browser() -> str | None:
    """Path of a Chromium or Chrome; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def pixel(camera: Camera, point: np.ndarray, width: float, height: float) -> tuple[float, float]:
    """Pixel of a point (3,) [m, world frame] in an image of this size, from the top left corner."""
    forward = camera.look_at - camera.position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    ray = point - camera.position
    scale = height / 2 / np.tan(camera.field_of_view / 2) / (ray @ forward)
    return width / 2 + scale * (ray @ right), height / 2 - scale * (ray @ np.cross(right, forward))


class Tab:
    """One open page of the browser."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket = connect(url, max_size=None, compression=None)
        self._number = 0
        self.requests: list[str] = []  # addresses requested by the page
        self.complaints: list[str] = []  # uncaught exceptions of the page

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; records events that arrive before the result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=ANSWER_S))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._keep(message)

    def _keep(self, message: dict[str, Any]) -> None:
        values = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(values["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(values["exceptionDetails"]))

    def open(self, url: str, width: int, height: int) -> None:
        """Open an address in a window of this size [px]."""
        for domain in ("Network", "Runtime", "Page"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """Visible text of the page."""
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def wait_text(self, part: str, timeout_s: float = START_S) -> None:
        """Wait until the page shows a text."""
        end_s = monotonic() + timeout_s
        while part not in (text := self.text()):
            assert monotonic() < end_s, f"not on the page: {part!r} (there is: {text!r})"
            sleep(0.1)

    def find(self, selector: str, text: str = "", number: int = 0) -> tuple[float, float] | None:
        """Centre [px] of the `number`-th visible element that matches a CSS selector and a text."""
        place: list[float] | None = self.evaluate(
            f"(() => {{ const e = [...document.querySelectorAll({json.dumps(selector)})].filter("
            f"e => e.offsetWidth && (e.innerText || '').includes({json.dumps(text)}))[{number}];"
            "if (!e) return null; e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        return None if place is None else (place[0], place[1])

    def centre(self, selector: str, text: str = "", number: int = 0) -> tuple[float, float]:
        """As `find`, for an element that must exist."""
        place = self.find(selector, text, number)
        assert place is not None, f"no {selector} {number} with text {text!r} on the page"
        return place

    def mouse(self, kind: str, x: float, y: float, buttons: int) -> None:
        """Send a mouse event: 'Moved', 'Pressed' or 'Released'."""
        button = "left" if buttons or kind == "Released" else "none"
        self.call(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=x,
            y=y,
            button=button,
            buttons=buttons,
            clickCount=0 if kind == "Moved" else 1,
        )

    def click(self, x: float, y: float) -> None:
        """Press and release the left button at a pixel."""
        self.mouse("Moved", x, y, 0)
        self.mouse("Pressed", x, y, 1)
        self.mouse("Released", x, y, 0)

    def drag(self, path: Sequence[tuple[float, float]], hold_s: float = 0.0) -> None:
        """Move to the first pixel of a path, press, move along the path, release."""
        self.mouse("Moved", *path[0], 0)
        sleep(0.3)
        self.mouse("Pressed", *path[0], 1)
        sleep(0.1)
        for x, y in path[1:]:
            self.mouse("Moved", x, y, 1)
            sleep(STEP_S)
        sleep(hold_s)
        self.mouse("Released", *path[-1], 0)

    @contextmanager
    def another(self, url: str) -> Iterator["Tab"]:
        """Open an address in a second tab of the same browser."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        parts = urlsplit(self._url)
        try:
            yield Tab(f"ws://{parts.netloc}/devtools/page/{target}")
        finally:
            self.call("Target.closeTarget", targetId=target)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the page."""
        image = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(image["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """Run a browser with one tab and its data in a folder."""
    path = find_browser()
    assert path is not None
    log = (folder / "browser.log").open("w")
    process = subprocess.Popen(
        [path, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Tab(_address(folder / "profile" / "DevToolsActivePort"))
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _address(port_file: Path) -> str:
    """Address of the only tab, reported by the browser."""
    end_s = monotonic() + START_S
    while not port_file.exists() or "\n" not in port_file.read_text():
        assert monotonic() < end_s, f"the browser does not start: {port_file} is missing"
        sleep(0.05)
    port = int(port_file.read_text().split()[0])
    with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as answer:
        pages = [entry for entry in json.load(answer) if entry["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
