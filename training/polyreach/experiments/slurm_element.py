"""python -m polyreach.experiments.slurm_element ARRAY.json CHECKPOINT_MINUTES INDEX: train the runs
of one element of a Slurm array, those that are not complete.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments.engines.local import LocalEngine
from polyreach.experiments.engines.slurm import read_element
from polyreach.experiments.job import is_complete
from polyreach.experiments.runner import run_all


def main(words: Sequence[str]) -> int:
    """Exit status of `run_all`; 2 if a run fails."""
    array, checkpoint_minutes, index = words
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        jobs = read_element(Path(array), int(index))
        missing = [job for job in jobs if not is_complete(job)]
        return run_all(missing, LocalEngine(1, float(checkpoint_minutes)), 0.0, console)
    except UserError as error:
        console.print(f"{error}", soft_wrap=True)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
