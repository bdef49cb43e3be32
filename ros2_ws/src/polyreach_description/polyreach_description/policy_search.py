"""Where the shipped policies are: models/ of the checkout, or share/polyreach/models of an
installation (wheel, ament or colcon).
"""

from pathlib import Path

from polyreach_description.policy_file import ContractError
from polyreach_description.share_folders import share_folders

DEFAULT_METHOD = "apg"


def find_policy(robot_name: str, method: str = DEFAULT_METHOD) -> Path:
    """The shipped policy of a robot, trained with a method.

    Raises ContractError that lists the folders searched.
    """
    folders = model_folders()
    for folder in folders:
        if (path := folder / f"{robot_name}-{method}.onnx").is_file():
            return path
    searched = ", ".join(map(str, folders))
    raise ContractError(
        f"no policy '{robot_name}-{method}.onnx' in {searched}; give the path of a policy file"
    )


def list_policies() -> list[Path]:
    """All policy files of the first of the folders."""
    return [path for folder in model_folders()[:1] for path in sorted(folder.glob("*.onnx"))]


def model_folders() -> list[Path]:
    """Folders that may hold policies: of the checkout this file is in, of installations, and of a
    checkout that an installation is in.
    """
    parents = Path(__file__).resolve().parents
    checkouts = [parent for parent in parents if (parent / "ros2_ws").is_dir()]
    source = [parent for parent in checkouts if (parent / "ros2_ws/src") in parents]
    folders = [
        *(checkout / "models" for checkout in source),
        *(folder / "models" for folder in share_folders("polyreach")),
        *(checkout / "models" for checkout in checkouts),
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
