"""Checks that a robot's model can be loaded within bounds, before this process loads it.

Some elements of MJCF expand to any number of others (replicate, composite, flexcomp), and files
that a model refers to (meshes, includes) may be of any size. A model without both needs no more
than its own text, and is loaded directly. Any other model is first loaded in a child process of
limited time and memory, unless this process or its parent has done so.
"""

import math
from functools import lru_cache
from hashlib import sha256
from os import environ
from pathlib import Path
from xml.etree import ElementTree

from polyreach_description.config_file import RobotError, RobotFile
from polyreach_description.limited import LimitError, Limits, run_limited

MAX_MODEL_BYTES = 16 * 2**20
MAX_ELEMENTS = 100_000  # with all copies
MAX_PLAIN_ELEMENTS = 1000
TRIAL_LIMITS = Limits(cpu_s=20, memory_bytes=4 * 2**30)
PASSED = "POLYREACH_LOADED_MODELS"  # environment: digests of models that loaded within the limits
_TRIAL = Path(__file__).with_name("model_trial.py")
_MJCF = """mujoco compiler option flag statistic visual global quality headlight map scale rgba
default worldbody body frame inertial joint freejoint geom site camera light asset material contact
pair exclude equality connect weld actuator motor position velocity keyframe key"""
_URDF = """robot link inertial origin mass inertia visual collision geometry box cylinder sphere
capsule material color joint parent child axis limit dynamics mimic safety_controller calibration"""
PLAIN_ELEMENTS = frozenset(f"{_MJCF} {_URDF}".split())


def read_bounded(model: Path) -> tuple[bytes, ElementTree.Element | None]:
    """The content of a model file, and its root element (None for what MuJoCo may read otherwise).

    Raises RobotError, naming the bound, for a file or a number of elements beyond it.
    """
    try:
        with model.open("rb") as stream:
            data = stream.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise RobotError(f"'{model}' cannot be read: {error.strerror}") from None
    if len(data) > MAX_MODEL_BYTES:
        raise RobotError(f"model '{model}' has more than {MAX_MODEL_BYTES} bytes")
    root = parse_xml(data)
    if root is not None and (count := elements_in(root)) > MAX_ELEMENTS:
        raise RobotError(
            f"model '{model}' stands for at least {count} elements, expected at most "
            f"{MAX_ELEMENTS} (copies by replicate, composite and flexcomp count)"
        )
    return data, root


def check_model(file: RobotFile) -> None:
    """Raise RobotError, naming the file and the bound, if the robot's model is too much to load."""
    try:
        data, root = read_bounded(file.model)
    except RobotError as error:
        raise RobotError(f"{file.path}: {error}") from None
    if root is None or not is_plain(root):
        digest = sha256(sha256(data).digest() + repr(file).encode()).hexdigest()
        passed = environ.get(PASSED, "").split()
        if digest in passed:
            return
        try:
            reason = _tried(file.path, digest)
        except LimitError as error:
            reason = f"{file.path}: its model cannot be loaded within the bounds: {error}"
        if reason:
            raise RobotError(reason)
        environ[PASSED] = " ".join([*passed, digest])


def is_plain(root: ElementTree.Element) -> bool:
    """Whether the text of a model, MJCF or URDF, bounds what it takes to load it."""
    elements = list(root.iter())
    return len(elements) <= MAX_PLAIN_ELEMENTS and all(
        element.tag in PLAIN_ELEMENTS
        and not any(name.endswith("iterations") for name in element.attrib)
        for element in elements
    )


def elements_in(root: ElementTree.Element) -> int:
    """How many elements a model has once its replicate, composite and flexcomp are written out.

    Counts no further than past MAX_ELEMENTS.
    """
    total, waiting = 0, [(root, 1)]
    while waiting:
        element, copies = waiting.pop()
        if element.tag in ("replicate", "composite", "flexcomp"):
            copies *= _product(element.get("count", ""))
        total += copies
        if total > MAX_ELEMENTS:
            break
        waiting += [(child, copies) for child in element]
    return total


def _product(counts: str) -> int:
    """The product of whole numbers in a text, at least 1; what is no number is left out."""
    numbers = (int(word) for word in counts.split()[:3] if word.isdecimal() and len(word) < 20)
    return math.prod(max(1, number) for number in numbers)


class _DoctypeFound(Exception):
    """A document has a DOCTYPE, in which entities may be defined."""


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: str | None) -> None:
        raise _DoctypeFound


def parse_xml(data: bytes) -> ElementTree.Element | None:
    """The root of an XML document; None for what MuJoCo's own parser may read otherwise."""
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(data.decode("utf-8"))  # text: an encoding that it names is not followed
        return parser.close()
    except (UnicodeDecodeError, ElementTree.ParseError, _DoctypeFound):
        return None


@lru_cache(maxsize=256)
def _tried(path: Path, digest: str) -> str:
    """Why a robot cannot be loaded, or ''. digest: of its yaml's content and its model.

    Raises LimitError, which is not kept: a busy machine may be to blame.
    """
    refused: str = run_limited(_TRIAL, (str(path),), b"", TRIAL_LIMITS)
    return refused
