"""Where the data files of a package are installed, by ament or by pip."""

import os
import sys
from pathlib import Path


def share_folders(package: str) -> list[Path]:
    """The existing folders share/PACKAGE: of sourced ROS workspaces, of the prefix that this file
    is installed in, and of the Python environment, in this order.
    """
    sourced = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    prefixes = [*map(Path, sourced), *Path(__file__).resolve().parents, Path(sys.prefix)]
    folders = dict.fromkeys(prefix / "share" / package for prefix in prefixes)
    return [folder for folder in folders if folder.is_dir()]
