"""Child process: load a robot, as a controller and a simulator would; run by model_check.py."""

import json
import sys
from contextlib import suppress
from pathlib import Path

from polyreach_description.config_file import RobotError, read_robot_file
from polyreach_description.robot import Robot


def trial(path: Path) -> str:
    """Why the robot cannot be loaded, in one sentence; '' if it can."""
    try:
        robot = Robot(read_robot_file(path))
        with suppress(RobotError):  # of a robot that can be controlled, but not simulated
            robot.simulation_model()
    except RobotError as error:
        return str(error)
    except MemoryError:
        return f"{path}: its model needs more memory than a robot may take"
    except Exception as error:  # what MuJoCo calls fatal has no common base class
        return f"{path}: its model cannot be loaded: {' '.join(str(error).split())}"
    return ""


if __name__ == "__main__":
    print("\n" + json.dumps(trial(Path(sys.argv[1]))))
