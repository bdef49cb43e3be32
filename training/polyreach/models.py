"""Where the shipped policies are: models/ of the checkout, or share/polyreach/models of an
installation.
"""

import sys
from pathlib import Path

from polyreach.errors import UserError

_PREFERRED = ("digrad",)


def model_folders() -> list[Path]:
    """Folders that may hold policies, the checkout's first."""
    checkout = Path(__file__).resolve().parents[2] / "models"
    # an ament or pip prefix holds lib/.../site-packages/polyreach and share/polyreach
    prefixes = [*Path(__file__).resolve().parents, Path(sys.prefix)]
    return [
        folder
        for folder in (checkout, *(p / "share/polyreach/models" for p in prefixes))
        if folder.is_dir()
    ]


def list_policies() -> list[Path]:
    """All shipped policy files."""
    return sorted(next(iter(model_folders()), Path()).glob("*.onnx")) if model_folders() else []


def find_policy(robot: str) -> Path:
    """The policy shipped for `robot`. Raises UserError if there is none."""
    for method in _PREFERRED:
        for path in list_policies():
            if path.name == f"{robot}-{method}.onnx":
                return path
    found = ", ".join(path.name for path in list_policies()) or "none"
    raise UserError(
        f"no policy is shipped for robot '{robot}' (shipped: {found}): give one with --policy"
    )
