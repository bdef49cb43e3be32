"""Fixtures: node processes, hardware simulated by messages, and a policy that needs no training.

For a test that uses `shared` or `shared_simulation`, directly or through a fixture, `probe`,
`hardware`, `start` and `ros_domain_id` belong to that shared controller; for other tests they are
separate.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from carts import CARTS, CARTS_YAML
from domains import reserved_domain
from groups import group_of
from rig import FakeHardware, Launcher, Process, export_least_squares, launching
from scenarios import Probe
from shared import SHARED, SharedController, shared_by

from polyreach_description import Robot, load_robot
from polyreach_nodes.control.policy import Policy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that share a controller first, one after the other.

    Failed tests with processes are repeated once, since other programs may have delayed a process
    for longer than a test allows; the summary lists each of them.
    """
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if here in item.path.parents]
    for place, item in zip(places, sorted((items[i] for i in places), key=sharing), strict=True):
        items[place] = item
        if group_of(item.nodeid):
            item.add_marker(pytest.mark.flaky(reruns=1))


def sharing(item: pytest.Item) -> int:
    """Index in SHARED of the shared controller of a test; len(SHARED) if it has none."""
    used = [place for place, name in enumerate(SHARED) if name in getattr(item, "fixturenames", ())]
    return used[0] if used else len(SHARED)


@pytest.fixture(scope="session")
def planar8() -> Robot:
    return load_robot("planar8")


@pytest.fixture(scope="session")
def policy_file(planar8: Robot, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A damped least squares policy for planar8."""
    return once("planar8-least-squares.onnx", lambda path: export_least_squares(planar8, path))


@pytest.fixture(scope="module")
def policy(policy_file: Path, planar8: Robot) -> Policy:
    """The same, loaded."""
    return Policy.load(policy_file, planar8)


@pytest.fixture(scope="module")
def carts(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    """Two balls of radius 0.05 m, 1 m apart on one rail; the right one also moves across it."""
    folder = tmp_path_factory.mktemp("carts")
    (folder / "robot.xml").write_text(CARTS)
    (folder / "robot.yaml").write_text(CARTS_YAML)
    return load_robot(folder / "robot.yaml")


@pytest.fixture
def controller(
    shared: SharedController, policy_file: Path, request: pytest.FixtureRequest
) -> Process:
    """Outages may end by themselves: what happens after long ones is tested elsewhere."""
    parameters = {"policy": str(policy_file), "outage_timeout": 0.0}
    return shared.reset(parameters, "hardware" in request.fixturenames)


@pytest.fixture
def autostart(policy_file: Path) -> dict[str, object]:
    """Parameters of a separate controller that starts by itself; its policy loads fast."""
    return {"autostart": True, "policy": str(policy_file)}


FAILED = pytest.StashKey[bool]()
CONTROLLERS = pytest.StashKey[dict[str, SharedController]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Record whether a test failed, for the controller that it shares."""
    report = yield
    if report.when == "setup":
        item.stash[FAILED] = False
    item.stash[FAILED] |= report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End a shared controller after the last of its tests, which are consecutive."""
    yield
    place = sharing(item)
    if place < len(SHARED) and (nextitem is None or sharing(nextitem) != place):
        item.config.stash[CONTROLLERS][SHARED[place]].close()


@pytest.fixture(scope="session")
def session_controllers(
    planar8: Robot, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[str, SharedController]:
    """Shared controllers by fixture name; each starts when a test first uses it."""
    pytestconfig.stash[CONTROLLERS] = {
        name: SharedController(planar8, tmp_path_factory.mktemp(name), name == SHARED[1])
        for name in SHARED
    }
    return pytestconfig.stash[CONTROLLERS]


@contextmanager
def borrowed(controller: SharedController, request: pytest.FixtureRequest) -> Iterator[None]:
    controller.ensure()
    controller.healthy = False
    yield
    controller.healthy = not request.node.stash[FAILED]


@pytest.fixture
def shared(
    session_controllers: dict[str, SharedController], request: pytest.FixtureRequest
) -> Iterator[SharedController]:
    """A controller with FakeHardware; tests call its reset() first."""
    with borrowed(session_controllers["shared"], request):
        yield session_controllers["shared"]


@pytest.fixture
def shared_simulation(
    session_controllers: dict[str, SharedController], request: pytest.FixtureRequest
) -> Iterator[SharedController]:
    """A controller with the simulator, which keeps the state of the previous test."""
    with borrowed(session_controllers["shared_simulation"], request):
        yield session_controllers["shared_simulation"]


@pytest.fixture
def ros_domain_id(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A separate domain id, or that of the shared controller; also set in the environment."""
    shared = shared_by(request)
    if shared is not None:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(shared.domain))
        yield shared.domain
        return
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture
def start(tmp_path: Path, ros_domain_id: int) -> Iterator[Launcher]:
    """Function that starts executables in the test's domain: see rig.launching."""
    with launching(tmp_path, ros_domain_id) as launch:
        yield launch


@pytest.fixture
def probe(request: pytest.FixtureRequest, planar8: Robot, ros_domain_id: int) -> Iterator[Probe]:
    shared = shared_by(request)
    if shared is not None:
        yield shared.probe
        return
    with Probe(planar8, ros_domain_id) as probe:
        yield probe


@pytest.fixture
def hardware(request: pytest.FixtureRequest, probe: Probe) -> FakeHardware:
    shared = shared_by(request)
    if shared is None:
        return FakeHardware(probe)
    assert shared.hardware is not None, "this controller has the simulator"
    return shared.hardware
