"""Fixtures of the launch tests."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from colcon_workspace import Workspace, build


@pytest.fixture(scope="session")
def built_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """All packages of the repository, built and installed in a temporary folder."""
    return build(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def workspace(built_workspace: Workspace, ros_domain_id: int) -> Workspace:
    """The built workspace with a separate ROS domain."""
    environment = {**built_workspace.environment, "ROS_DOMAIN_ID": str(ros_domain_id)}
    return replace(built_workspace, environment=environment)
