"""The four packages have one version, which the changelog describes."""

import re
from importlib.metadata import version
from pathlib import Path

from command_line import run

REPOSITORY = Path(__file__).resolve().parents[2]
SETUPS = sorted([REPOSITORY / "setup.py", *REPOSITORY.glob("ros2_ws/src/*/setup.py")])
MANIFESTS = sorted([REPOSITORY / "package.xml", *REPOSITORY.glob("ros2_ws/src/*/package.xml")])


def test_all_packages_have_the_newest_version_of_the_changelog() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert newest and len(SETUPS) == 3 and len(MANIFESTS) == 4
    for file in SETUPS:
        assert f'version="{newest[1]}"' in file.read_text(), file
    for file in MANIFESTS:
        assert f"<version>{newest[1]}</version>" in file.read_text(), file


def test_the_command_prints_the_version_that_is_installed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"polyreach {version('polyreach')}\n")
