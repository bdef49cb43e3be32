"""Record the web page as an animated picture: `record_view.py docs/view.webp`.

A browser without a GPU draws a few pictures a second. Simulator and controller therefore run in
slow motion, and so does the clock of the page; the picture plays at true speed. The mouse pointer,
which a headless browser does not draw, is painted.
"""

import os
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

import mujoco
import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import Tab, browser, pixel
from domains import reserved_domain
from rig import launching
from scenarios import Probe

from polyreach_description import Robot, load_robot
from polyreach_nodes.ros.middleware import loopback_environment
from polyreach_nodes.view import shapes
from polyreach_nodes.view.scene import HANDLE_SHARE

ROBOT, EFFECTOR = "humanoid27", "left_hand"
RATE = 0.03  # simulated seconds per second
WIDTH, HEIGHT = 940, 640  # [px]
SECONDS, FRAME_S = 20.0, 0.1  # of the picture
DRAG_S = 8.0, 11.5  # the goal is dragged between
AGAIN_S = 13.0  # random goals again
BY_M = 0.45  # up or down, towards the middle
UP = np.array([0.0, 0.0, 1.0])
QUALITY = 55
ARROW = [(0, 0), (0, 17), (4, 13), (7, 19), (10, 18), (7, 12), (12, 12)]  # [px]
# the page's clock is that of the simulator, so that times on it are true
PAGE = f"""
import sys, time
from polyreach_nodes.view_node import main
for name, module in list(sys.modules.items()):
    if name.startswith("polyreach_nodes.") and hasattr(module, "monotonic"):
        module.monotonic = lambda: {RATE} * time.monotonic()
sys.exit(main())
"""


class Hand:
    """The mouse, and the pointer that is painted."""

    def __init__(self, tab: Tab, robot: Robot) -> None:
        self._tab = tab
        self._camera = shapes.first_camera(robot, shapes.effector_samples(robot))
        distance = np.linalg.norm(self._camera.position - self._camera.look_at)
        height = 2 * distance * np.tan(self._camera.field_of_view / 2)
        self._arrow = 0.7 * HANDLE_SHARE * height * UP
        data = mujoco.MjData(robot.model)
        mujoco.mj_kinematics(robot.model, data)
        self._base = data.xpos[robot.base_body]
        self.at: tuple[float, float] | None = None
        self.presses = False

    def on_arrow(self, goal: np.ndarray) -> tuple[float, float]:
        """Pixel of the upward arrow of a goal [m, base frame]."""
        script = "(() => { const r = document.querySelector('canvas').getBoundingClientRect();"
        size = self._tab.evaluate(script + "return [r.width, r.height]})()")
        return pixel(self._camera, self._base + goal + self._arrow, *size)

    def move(self, place: tuple[float, float]) -> None:
        self._tab.mouse("Moved", *place, int(self.presses))
        self.at = place

    def press(self, presses: bool) -> None:
        assert self.at is not None
        self.presses = presses
        self._tab.mouse("Pressed" if presses else "Released", *self.at, int(presses))


def choose_random_goals(tab: Tab, hand: Hand) -> None:
    """In the list of who sets the goals."""
    for selector, text in (("input[aria-haspopup=listbox]", ""), ("[role=option]", "random")):
        hand.move(tab.centre(selector, text))
        tab.click(*tab.centre(selector, text))
        sleep(1.0)


def play(tab: Tab, probe: Probe, robot: Robot, folder: Path) -> list[float]:
    """Write a PNG per frame; returns when each was taken [s of the simulation]."""
    hand, times = Hand(tab, robot), []
    start, by = np.zeros(3), 0.0
    begin_s, random = monotonic(), False
    while (now_s := RATE * (monotonic() - begin_s)) < SECONDS:
        if DRAG_S[0] <= now_s < DRAG_S[1]:
            if not hand.presses:
                start = np.array([float(x) for x in probe.value(f"goal/{EFFECTOR}").split()])
                home = robot.forward_kinematics(robot.home)[robot.effector_names.index(EFFECTOR)]
                by = BY_M * (1.0 if start[2] < home[2] else -1.0)
                hand.move(hand.on_arrow(start))
                hand.press(True)
            share = (now_s - DRAG_S[0]) / (DRAG_S[1] - DRAG_S[0])
            hand.move(hand.on_arrow(start + by * np.sin(0.75 * np.pi * share) * UP))
        elif hand.presses:
            hand.press(False)
        elif now_s >= AGAIN_S and not random:
            choose_random_goals(tab, hand)
            random = True
        elif random:
            hand.at = None
        path = folder / f"{len(times):04d}.png"
        times.append(RATE * (monotonic() - begin_s))
        tab.screenshot(path)
        if hand.at is not None:
            point(path, hand.at)
        sleep(max(0.0, (times[-1] + FRAME_S) / RATE - (monotonic() - begin_s)))
    return times


def point(path: Path, at: tuple[float, float]) -> None:
    """Paint the pointer."""
    image = Image.open(path).convert("RGB")
    shape = [(at[0] + x, at[1] + y) for x, y in ARROW]
    ImageDraw.Draw(image).polygon(shape, fill="black", outline="white")
    image.save(path)


def assemble(folder: Path, times: list[float], path: Path) -> None:
    """Write the animated picture, which plays for ever."""
    images = [Image.open(frame).convert("RGB") for frame in sorted(folder.glob("*.png"))]
    durations_ms = [1e3 * duration for duration in np.diff([*times, times[-1] + FRAME_S])]
    first, *others = images
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=[round(ms) for ms in durations_ms],
        loop=0,
        quality=QUALITY,
        method=4,
    )
    print(f"{path}: {len(images)} pictures, {times[-1]:.1f} s, {path.stat().st_size / 1e6:.2f} MB")


def record(folder: Path, path: Path, domain: int) -> None:
    """Run robot, page and browser, and write the picture."""
    robot = load_robot(ROBOT)
    slow = {"robot": ROBOT, "use_sim_time": True}
    late = {"joint_state_timeout": 0.03 / RATE, "outage_timeout": 0.0}
    with launching(folder, domain) as start:
        remap = "commands:=polyreach_controller/commands"
        start("sim_node", {**slow, "rate_factor": RATE}, "-r", remap)
        start("controller_node", {**slow, **late, "autostart": True})
        words = ["--ros-args", "-p", f"robot:={ROBOT}", "-p", "port:=0"]
        page = start(
            "python", None, "-c", PAGE, *words, "-p", "goals:=random goals", "-p", "shadows:=false"
        )
        with Probe(robot, domain) as probe, browser(folder) as tab:
            probe.wait(lambda: "http://" in page.output, "the page", 60.0)
            tab.open(page.output.split()[-1], WIDTH, HEIGHT)
            tab.wait_text("ACTIVE", 120.0)
            probe.wait(lambda: bool(probe.value(f"goal/{EFFECTOR}")), "a goal", 60.0)
            while (place := tab.find(".mantine-Notification-closeButton")) is not None:
                tab.click(*place)
                sleep(0.5)
            frames = folder / "frames"
            frames.mkdir()
            assemble(frames, play(tab, probe, robot, frames), path)


def main() -> None:
    """Record in a ROS domain of its own."""
    os.environ.update(loopback_environment(os.environ))
    path = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder, reserved_domain() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        record(Path(folder), path, domain)


if __name__ == "__main__":
    main()
