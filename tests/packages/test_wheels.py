"""The wheels of the three packages, in an environment that does not see the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "polyreach": REPOSITORY,
    "polyreach_description": REPOSITORY / "ros2_ws/src/polyreach_description",
    "polyreach_nodes": REPOSITORY / "ros2_ws/src/polyreach_nodes",
}
# what the package polyreach is made of; the checkout holds more
ROOT_SOURCES = (
    "LICENSE", "config", "launch", "models", "package.xml", "resource", "setup.cfg", "setup.py",
    "training",
)  # fmt: skip
DEPENDENCIES = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each package, by name."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, source in PACKAGES.items():
        copy = folder / "sources" / name
        copy.mkdir(parents=True)
        # a build in place would leave folders behind that the next one packs
        for path in source.iterdir():
            if source == REPOSITORY and path.name not in ROOT_SOURCES:
                continue
            if path.is_file():
                shutil.copy(path, copy)
            elif path.name != "build" and path.suffix != ".egg-info":
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(path, copy / path.name, ignore=ignored)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        offline = ["--no-deps", "--no-index", "--no-build-isolation"]
        subprocess.run([*pip, "wheel", "-q", *offline, "-w", folder, copy], check=True)
    return {name: next(folder.glob(f"{name}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="module")
def run(
    wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(program, *words): a program of a new environment that holds the three wheels.

    It takes the dependencies from the environment of the tests, whose .pth files, and with them the
    editable installations of the three packages, it does not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", *wheels.values()], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    lines = [DEPENDENCIES]
    if (Path(DEPENDENCIES) / "ros_wheels_bootstrapper.pth").exists():
        lines.append("import ros_wheels_bootstrapper")
    (packages / "dependencies.pth").write_text("\n".join(lines) + "\n")

    def run_program(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            [folder / "bin" / program, *words],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run_program


@pytest.mark.exhaustive
def test_every_module_and_data_file_is_in_its_wheel(wheels: dict[str, Path]) -> None:
    sources = {
        name: folder / ("training/polyreach" if name == "polyreach" else name)
        for name, folder in PACKAGES.items()
    }
    for name, folder in sources.items():
        packed = set(ZipFile(wheels[name]).namelist())
        present = {
            path.relative_to(folder.parent).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert present - packed == set(), name
    shared = {
        Path(path).relative_to(Path(path).parts[0], "data", "share/polyreach").as_posix()
        for path in ZipFile(wheels["polyreach"]).namelist()
        if ".data/data/share/polyreach/" in path
    }
    for pattern in ("launch/*.launch.py", "config/**/*.*", "models/*.*", "package.xml"):
        files = {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob(pattern)}
        assert files and files <= shared, pattern


@pytest.mark.exhaustive
def test_the_demo_runs_from_the_wheels(
    run: Callable[..., subprocess.CompletedProcess[str]], ros_domain_id: int
) -> None:
    where = "import {0}; print({0}.__file__)"
    for name in PACKAGES:
        imported = Path(run("python", "-c", where.format(name)).stdout.strip())
        assert not imported.is_relative_to(REPOSITORY) and "site-packages" in imported.parts
    shown = run("polyreach", "--version")
    assert shown.stdout.startswith("polyreach "), shown.stderr
    listed = json.loads(run("polyreach", "list", "--json").stdout)
    assert {"planar8", "humanoid27", "dual7"} <= set(listed["robots"])
    assert listed["policies"]
    assert not any(Path(path).is_relative_to(REPOSITORY) for path in listed["policies"])
    for robot in ("planar8", "humanoid27", "dual7"):
        demo = run("polyreach", "demo", robot, "--json", "--goal-sets", "1")
        assert demo.returncode == 0, demo.stderr
        assert json.loads(demo.stdout)["success"] is True
