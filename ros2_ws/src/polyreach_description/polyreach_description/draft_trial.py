"""Child process: draft a robot.yaml of a model; run by draft_yaml.py."""

import json
import sys
from pathlib import Path
from typing import Any

from polyreach_description.config_file import RobotError
from polyreach_description.draft import draft_robot
from polyreach_description.draft_text import decisions, draft_text


def trial(model: Path, reference: str, effectors: list[str]) -> dict[str, Any]:
    """The text of a robot.yaml with the path `reference` of its model, or why there is none."""
    try:
        draft = draft_robot(model, effectors)
    except RobotError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": f"'{model}' needs more memory than a robot may take"}
    except Exception as error:  # what MuJoCo calls fatal has no common base class
        return {"refused": f"'{model}' cannot be loaded: {' '.join(str(error).split())}"}
    text = draft_text(draft, reference)
    return {"text": text, "decisions": list(decisions(draft)), "problem": draft.problem}


if __name__ == "__main__":
    print("\n" + json.dumps(trial(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
