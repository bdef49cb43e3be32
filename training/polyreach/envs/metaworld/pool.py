"""Who steps the Meta-World simulations: this process, or several that share memory with it."""

import ctypes
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from polyreach.envs.metaworld.simulation import Simulation
from polyreach.envs.metaworld.task import OBS_SIZE

ACTION_SIZE = 4
STOP_S = 5.0  # time that a process has to end by itself [s]
GO_ON = -1

Pairs = Sequence[tuple[int, int]]  # (task, environment of the task)


class Buffers(NamedTuple):
    """What goes in and out of a step; T tasks, n environments of each."""

    action: NDArray[np.float32]  # (T, n, 4)
    next_goal: NDArray[np.int64]  # (T, n): the goal to start with after this step, or GO_ON
    obs: NDArray[np.float32]  # (T, n, 39), after any start
    final_obs: NDArray[np.float32]  # (T, n, 39), before any start
    reward: NDArray[np.float64]  # (T, n)
    success: NDArray[np.bool_]  # (T, n)


Memory = dict[str, Any]  # one ctypes array for each field of Buffers


def _memory(tasks: int, count: int, array: Callable[[Any, int], Any]) -> Memory:
    cells = tasks * count
    return {
        "action": array(ctypes.c_float, cells * ACTION_SIZE),
        "next_goal": array(ctypes.c_int64, cells),
        "obs": array(ctypes.c_float, cells * OBS_SIZE),
        "final_obs": array(ctypes.c_float, cells * OBS_SIZE),
        "reward": array(ctypes.c_double, cells),
        "success": array(ctypes.c_bool, cells),
    }


def _buffers(memory: Memory, tasks: int, count: int) -> Buffers:
    arrays = {name: np.ctypeslib.as_array(cells) for name, cells in memory.items()}
    return Buffers(
        **{
            name: array.reshape(tasks, count, *([] if array.size == tasks * count else [-1]))
            for name, array in arrays.items()
        }
    )


class Pool(Protocol):
    """Steps environments whose inputs and outputs are in `buffers`."""

    buffers: Buffers

    def start(self, pairs: Pairs) -> None:
        """Begin episodes with `next_goal`."""

    def step(self, pairs: Pairs) -> None:
        """Step with `action`, then start those whose `next_goal` is not GO_ON."""

    def state(self, pairs: Pairs) -> list[dict[str, Any]]:
        """Their episodes, see Simulation.state."""

    def load_state(self, pairs: Pairs, states: list[dict[str, Any]]) -> None:
        """Put them into these episodes."""

    def close(self) -> None:
        """Stop processes."""


class LocalPool:
    """All in this process, one after another; one simulation for each task."""

    def __init__(
        self, names: Sequence[str], count: int, reward: str, memory: Memory | None = None
    ) -> None:
        if memory is None:
            memory = _memory(len(names), count, lambda kind, size: (kind * size)())
        self.buffers = _buffers(memory, len(names), count)
        self._names, self._reward = names, reward
        self._simulations: dict[int, Simulation] = {}

    def _simulation(self, task: int) -> Simulation:
        if task not in self._simulations:
            self._simulations[task] = Simulation(self._names[task], self._reward)
        return self._simulations[task]

    def start(self, pairs: Pairs) -> None:
        """Begin episodes with `next_goal`."""
        for task, i in pairs:
            goal = int(self.buffers.next_goal[task, i])
            self.buffers.obs[task, i] = self._simulation(task).start(i, goal)

    def step(self, pairs: Pairs) -> None:
        """Step with `action`, then start those whose `next_goal` is not GO_ON."""
        buffers = self.buffers
        for task, i in pairs:
            simulation = self._simulation(task)
            obs, reward, success = simulation.step(i, buffers.action[task, i])
            buffers.reward[task, i], buffers.success[task, i] = reward, success
            buffers.final_obs[task, i] = buffers.obs[task, i] = obs
            if buffers.next_goal[task, i] != GO_ON:
                buffers.obs[task, i] = simulation.start(i, int(buffers.next_goal[task, i]))

    def state(self, pairs: Pairs) -> list[dict[str, Any]]:
        """Their episodes, see Simulation.state."""
        return [self._simulation(task).state(i) for task, i in pairs]

    def load_state(self, pairs: Pairs, states: list[dict[str, Any]]) -> None:
        """Put them into these episodes."""
        for (task, i), state in zip(pairs, states, strict=True):
            self._simulation(task).load_state(i, state)

    def close(self) -> None:
        """Nothing to stop."""


class WorkerPool:
    """Environment (t, i) in process (t n + i) mod `workers`; the numbers are those of LocalPool.

    Raises RuntimeError if a process has died or met an error.
    """

    def __init__(self, names: Sequence[str], count: int, reward: str, workers: int) -> None:
        # a forked child would inherit the locks of this process's threads
        context = multiprocessing.get_context("spawn")
        memory = _memory(len(names), count, context.RawArray)
        self.buffers = _buffers(memory, len(names), count)
        self._count = count
        self._pipes: list[Connection] = []
        self._processes = []
        for k in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(theirs, tuple(names), count, reward, memory),
                name=f"metaworld-{k}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def start(self, pairs: Pairs) -> None:
        """Begin episodes with `next_goal`."""
        self._ask("start", pairs)

    def step(self, pairs: Pairs) -> None:
        """Step with `action`, then start those whose `next_goal` is not GO_ON."""
        self._ask("step", pairs)

    def state(self, pairs: Pairs) -> list[dict[str, Any]]:
        """Their episodes, see Simulation.state."""
        answers = self._ask("state", pairs)
        return [answers[pair] for pair in pairs]

    def load_state(self, pairs: Pairs, states: list[dict[str, Any]]) -> None:
        """Put them into these episodes."""
        self._ask("load_state", pairs, dict(zip(pairs, states, strict=True)))

    def close(self) -> None:
        """Ask the processes to end; end those that do not."""
        for pipe in self._pipes:
            # a process that has died has closed its end
            try:
                pipe.send(None)
            except OSError:
                continue
        for process in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._processes = [], []

    def _ask(
        self, what: str, pairs: Pairs, given: dict[tuple[int, int], Any] | None = None
    ) -> dict[tuple[int, int], Any]:
        if not self._pipes:
            raise RuntimeError("the Meta-World processes have been stopped by close()")
        shares: dict[int, list[tuple[int, int]]] = {}
        for task, i in pairs:
            shares.setdefault((task * self._count + i) % len(self._pipes), []).append((task, i))
        for k, share in shares.items():
            arguments = (share,) if given is None else (share, [given[pair] for pair in share])
            try:
                self._pipes[k].send((what, arguments))
            except OSError as error:
                raise self._died(k) from error
        answers: dict[tuple[int, int], Any] = {}
        failures = []
        for k, share in shares.items():
            try:
                failure, answer = self._pipes[k].recv()
            except (EOFError, OSError) as error:
                raise self._died(k) from error
            if failure is not None:
                failures.append(f"Meta-World process {k} failed:\n{failure}")
            answers.update(zip(share, answer or [None] * len(share), strict=True))
        if failures:
            raise RuntimeError("\n".join(failures))
        return answers

    def _died(self, k: int) -> RuntimeError:
        self._processes[k].join(STOP_S)
        return RuntimeError(
            f"Meta-World process {k} of {len(self._processes)} (pid {self._processes[k].pid}) has "
            f"died with exit code {self._processes[k].exitcode}"
        )


def _work(pipe: Connection, names: Sequence[str], count: int, reward: str, memory: Memory) -> None:
    # the process that started this one ends it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool = LocalPool(names, count, reward, memory)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if request is None:
            return
        what, arguments = cast(tuple[str, tuple[Any, ...]], request)
        try:
            pipe.send((None, getattr(pool, what)(*arguments)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
