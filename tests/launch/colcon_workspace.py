"""Build the packages of this repository with colcon, as a user does."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workspace:
    """A built workspace and the environment after sourcing it."""

    install: Path
    environment: dict[str, str]

    def prefix(self, package: str) -> Path:
        """Install folder of a package."""
        return self.install / package

    def run(
        self, *command: str | Path, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the sourced environment; captures stdout and stderr together."""
        return run(*command, folder=self.install, timeout_s=timeout_s, environment=self.environment)


def run(
    *command: str | Path,
    folder: Path,
    timeout_s: float = 60.0,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; captures stdout and stderr together."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )


def program(name: str) -> str:
    """Path of a program on PATH or beside the running interpreter; '' if there is none."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent)) or ""


def build_environment() -> dict[str, str]:
    """Environment of colcon: that of a sourced ROS 2, or else of the wheels."""
    if os.environ.get("AMENT_PREFIX_PATH"):
        return dict(os.environ)
    folder = Path(sys.executable).parent
    return {
        **os.environ,
        "VIRTUAL_ENV": sys.prefix,
        "AMENT_PREFIX_PATH": sys.prefix,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }


def builds_interfaces() -> bool:
    """Whether polyreach_interfaces can be built; it is the only package that needs a compiler."""
    prefixes = build_environment()["AMENT_PREFIX_PATH"].split(os.pathsep)
    generators = [Path(prefix) / "share" / "rosidl_default_generators" for prefix in prefixes]
    return any(path.is_dir() for path in generators) and shutil.which("c++") is not None


def build(folder: Path) -> Workspace:
    """Build all packages in an empty folder."""
    skipped = [] if builds_interfaces() else ["--packages-skip", "polyreach_interfaces"]
    result = run(
        program("colcon"),
        *("--log-base", folder / "log"),
        "build",
        *("--build-base", folder / "build"),
        *("--install-base", folder / "install"),
        *skipped,
        folder=REPOSITORY / "ros2_ws",
        timeout_s=300.0,
        environment=build_environment(),
    )
    assert result.returncode == 0, result.stdout
    return Workspace(folder / "install", sourced(folder / "install"))


def sourced(install: Path) -> dict[str, str]:
    """The environment variables after `source install/setup.bash`."""
    before = {
        **os.environ,
        "PATH": f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}",
        "ROS_LOG_DIR": str(install.parent / "ros_log"),
        "OMP_NUM_THREADS": "1",
    }
    shell = ["bash", "-c", 'source "$0" && env -0', str(install / "setup.bash")]
    text = subprocess.run(shell, env=before, check=True, capture_output=True, text=True).stdout
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
