"""Run a node until SIGINT, SIGTERM or SIGHUP, so that it can still publish while it stops."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

GRACE_S = 2.0


def stop_on_signal() -> Future:
    """A future that is done at the first SIGINT, SIGTERM or SIGHUP.

    A later one ends the process with status 1, but not within GRACE_S: at Ctrl-C, a terminal and a
    launcher may both send one.

    rclpy's own handlers would shut the context down, after which no zero could be published.
    A thread waits at the far end of a pipe: the main thread may be deep inside an executor's wait.
    """
    stopped: Future = Future()
    far_end, near_end = os.pipe()
    os.set_blocking(near_end, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(near_end, warn_on_full_buffer=False)

    def wait() -> None:
        os.read(far_end, 1)
        first_s = monotonic()
        stopped.set_result(None)
        while monotonic() - first_s < GRACE_S:
            os.read(far_end, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="signals").start()
    return stopped


def run_node(
    make: Callable[[], Node], stop: Callable[[Node], None], argv: Sequence[str] | None = None
) -> int:
    """Spin the node that `make` returns in this thread; `stop` finds the context still alive.

    Returns the exit status: 0 after a signal, 1 after an error.
    """
    stopped = stop_on_signal()
    rclpy.init(
        args=sys.argv if argv is None else list(argv),
        signal_handler_options=SignalHandlerOptions.NO,
    )
    executor = SingleThreadedExecutor()
    node: Node | None = None
    status = 0
    try:
        node = make()
        executor.add_node(node)
        executor.spin_until_future_complete(stopped)
    except Exception as error:
        status = 1
        logger = node.get_logger() if node else rclpy.logging.get_logger("polyreach")
        logger.fatal(f"{type(error).__name__}: {error}")
    finally:
        if node is not None:
            stop(node)
            executor.remove_node(node)
            node.destroy_node()
        executor.shutdown()
        rclpy.shutdown()
    return status
