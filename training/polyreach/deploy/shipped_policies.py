"""Where the shipped policies are: models/ of the checkout, or share/polyreach/models of an
installation.
"""

import sys
from pathlib import Path


def model_folders() -> list[Path]:
    """Folders that may hold policies, the checkout's first."""
    checkout = Path(__file__).resolve().parents[3] / "models"
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
