"""Run a node until SIGINT, SIGTERM or SIGHUP; it can still publish while it stops."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from polyreach_nodes.ros.middleware import leave_shared_memory

GRACE_S = 2.0  # [s] within which a second signal does not end the process
STUCK_S = 2.0  # [s] after a signal, within which the main thread must notice it
ON_STUCK_S = 0.2  # [s] for `on_stuck`, before the process ends
POLL_S = 0.05  # [s] between two checks of a condition, while no message comes
MAX_ERRORS = 10  # exceptions in a row, without a callback that succeeds between them

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Set by the first SIGINT, SIGTERM or SIGHUP; the main thread calls `is_set` in its loop.

    A second signal ends the process with status 1, but not within GRACE_S: at Ctrl-C, a terminal
    and a launcher may both send one. A main thread that does not call `is_set` within STUCK_S of
    the first signal is stuck, for example in a policy that never returns: then `on_stuck` is called
    in another thread, and the process ends with status 1.

    The handlers of rclpy would shut the context down, after which no zero could be published.
    A thread reads signals from a pipe, since the main thread may be waiting in an executor.
    """

    def __init__(self) -> None:
        self.on_set: Callable[[], object] = lambda: None  # wakes the main thread
        self.on_stuck: Callable[[], object] = lambda: None
        self._set, self._noticed = threading.Event(), threading.Event()
        self._read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(target=self._wait, daemon=True, name="signals").start()

    def is_set(self) -> bool:
        """Whether there was a signal. To be called by the main thread alone."""
        if self._set.is_set():
            self._noticed.set()
            return True
        return False

    def _wait(self) -> None:
        os.read(self._read_end, 1)
        first_s = monotonic()
        self._set.set()
        self.on_set()
        while True:
            stuck_s = STUCK_S - (monotonic() - first_s)
            wait_s = None if self._noticed.is_set() else max(0.0, stuck_s)
            readable, _, _ = select.select([self._read_end], [], [], wait_s)
            if readable:
                os.read(self._read_end, 1)
                if monotonic() - first_s >= GRACE_S:
                    os._exit(1)
            elif not self._noticed.is_set():
                self._end_stuck()

    def _end_stuck(self) -> None:
        thread = threading.Thread(target=self.on_stuck, daemon=True, name="on_stuck")
        thread.start()
        thread.join(ON_STUCK_S)
        text = f"the main thread did not react within {STUCK_S:g} s of a signal: process ended\n"
        os.write(sys.stderr.fileno(), text.encode())
        os._exit(1)


def run_node(
    make: Callable[[], Node],
    stop: Callable[[Node], None],
    argv: Sequence[str] | None = None,
    on_stuck: Callable[[Node], None] = lambda node: None,
) -> int:
    """Spin the node of `make` in this thread; at the end call `stop`, which can still publish.

    An exception that leaves a callback is logged and the node goes on, since no request may end a
    node; MAX_ERRORS in a row do. on_stuck: called in another thread before the process ends
    because a callback did not return within STUCK_S of a signal.

    Returns the exit status: 0 after a signal, 1 after an error.
    """
    stopping = StopRequest()
    leave_shared_memory()
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
        # a task ends the executor's wait; to wake it alone does not
        stopping.on_set = partial(executor.create_task, lambda: None)
        stopping.on_stuck = partial(on_stuck, node)
        spin(executor, node, stopping)
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


def spin_until(
    executor: SingleThreadedExecutor, done: Callable[[], bool], timeout_s: float
) -> bool:
    """Handle callbacks until done() or for timeout_s [s of wall time]; whether it is done."""
    end_s = monotonic() + timeout_s
    while not done():
        if (left_s := end_s - monotonic()) <= 0.0:
            return False
        executor.spin_once(timeout_sec=min(left_s, POLL_S))
    return True


def spin(executor: SingleThreadedExecutor, node: Node, stopping: StopRequest) -> None:
    """Handle callbacks until `stopping` is set; see run_node for those that raise.

    Not by rclpy's spin_until_future_complete, which adds a callback to the future at every spin
    (7.1.6; ros2/rclpy issue 1371): the process grows, and so do the garbage collector's pauses.
    """
    errors = 0
    while not stopping.is_set() and rclpy.ok():
        try:
            executor.spin_once()
            errors = 0
        except Exception as error:
            errors += 1
            if errors >= MAX_ERRORS:
                raise
            node.get_logger().error(f"a callback failed: {type(error).__name__}: {error}")
