"""Child process: compare a robot with a description; run by description_check.py.

Standard input: the DescribedRobot as JSON, in one line, and then the description.
"""

import json
import sys

from polyreach_description.description_diff import DescribedRobot, differences
from polyreach_description.urdf_kinematics import UrdfError


def trial(data: bytes) -> list[str]:
    """The differences, or why there is nothing to compare."""
    request, _, description = data.partition(b"\n")
    try:
        return differences(description, DescribedRobot(**json.loads(request)))
    except UrdfError as error:
        return [f"it cannot be read: {error}"]
    except MemoryError:
        return ["it needs more memory than a robot may take"]


if __name__ == "__main__":
    print("\n" + json.dumps(trial(sys.stdin.buffer.read())))
