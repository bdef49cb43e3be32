"""Where shipped policies are found: in a checkout, a pip prefix, and an ament or colcon install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import polyreach_description
from polyreach_description.policy_file import ContractError
from polyreach_description.policy_search import find_policy, list_policies

MODELS = Path(__file__).parents[2] / "models"
SEARCH = """
from polyreach_description.policy_search import find_policy, list_policies
print(find_policy("planar8"), *list_policies(), sep="\\n")
"""


def found_by_copy(site_packages: Path, ament_prefixes: tuple[Path, ...] = ()) -> list[Path]:
    """What find_policy and list_policies of a copy of the package in site_packages return."""
    shutil.copytree(
        Path(polyreach_description.__file__).parent,
        site_packages / "polyreach_description",
        ignore=shutil.ignore_patterns("__pycache__", "robots"),
    )
    prefixes = os.pathsep.join(map(str, ament_prefixes))
    output = subprocess.run(
        [sys.executable, "-c", SEARCH],
        env={**os.environ, "PYTHONPATH": str(site_packages), "AMENT_PREFIX_PATH": prefixes},
        check=True,
        capture_output=True,
        text=True,
        cwd=site_packages,
    ).stdout
    return [Path(line) for line in output.splitlines()]


def install_models(prefix: Path) -> list[Path]:
    """Install two files as policies of package polyreach in a prefix; returns them, sorted."""
    folder = prefix / "share" / "polyreach" / "models"
    folder.mkdir(parents=True)
    files = [folder / "planar8-apg.onnx", folder / "planar8-ddpg.onnx"]
    for file in files:
        file.touch()
    return files


def test_a_checkout_has_its_own_policies() -> None:
    assert find_policy("planar8") == MODELS / "planar8-apg.onnx"
    assert find_policy("planar8", "mtsac") == MODELS / "planar8-mtsac.onnx"
    assert list_policies() == sorted(MODELS.glob("*.onnx"))


def test_a_pip_prefix_has_the_policies_of_its_share_folder(tmp_path: Path) -> None:
    apg, ddpg = install_models(tmp_path)
    site_packages = tmp_path / "lib" / "python3" / "site-packages"
    assert found_by_copy(site_packages) == [apg, apg, ddpg]


def test_a_sourced_ament_prefix_comes_before_the_package_s_own(tmp_path: Path) -> None:
    install = tmp_path / "ws" / "install"
    apg, ddpg = install_models(install / "polyreach")
    description = install / "polyreach_description"
    install_models(description)
    found = found_by_copy(
        description / "lib" / "python3" / "site-packages", (description.parent / "polyreach",)
    )
    assert found == [apg, apg, ddpg]


def test_a_build_in_a_checkout_falls_back_to_the_checkout_s_models(tmp_path: Path) -> None:
    shutil.copytree(MODELS, tmp_path / "models", ignore=shutil.ignore_patterns("*.md"))
    found = found_by_copy(tmp_path / "ros2_ws" / "install" / "description" / "lib")
    assert found[0] == tmp_path / "models" / "planar8-apg.onnx"
    assert len(found) == 1 + len(list(MODELS.glob("*.onnx")))


def test_a_missing_policy_lists_the_folders_searched() -> None:
    with pytest.raises(ContractError, match=r"'nosuch-apg\.onnx' in .*models"):
        find_policy("nosuch")
