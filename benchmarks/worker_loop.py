"""The loop of a process that a WorkerProcess starts; it needs no more than Python's own library."""

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any


def serve(start: Callable[[dict[str, Any]], Callable[..., Any]]) -> None:
    """Answer messages, which are pickles, until the input ends.

    A dict is what `start` takes, at first and whenever it changes; it returns the function that
    answers. Any other message has the arguments of that function.
    """
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    while True:
        try:
            message = pickle.load(requests)
        except EOFError:
            return
        if isinstance(message, dict):
            answer = start(message)
            continue
        pickle.dump(answer(*message), answers)
        answers.flush()
