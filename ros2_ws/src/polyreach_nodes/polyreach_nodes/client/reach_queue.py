"""The order of reach tasks: which one runs, which ones wait, which ones end with another."""

from polyreach_nodes.client.reach_request import ReachClient
from polyreach_nodes.client.reach_task import Outcome, ReachTask

NOT_BEGUN = "not begun, since the goal before it was not reached: "


class ReachQueue:
    """Lets one task run at a time; times are monotonic seconds.

    A task begins at once, and those that run or wait end as preempted. A queued task begins when
    the task that was added just before it has succeeded. If that one ends in any other way, or has
    already, the queued task ends without having begun, and so do those behind it: after a failure,
    only a task that is not queued moves the robot again.
    """

    def __init__(self, client: ReachClient) -> None:
        self._client = client
        self._tasks: list[ReachTask] = []  # those that are not done
        self._waiting: dict[ReachTask, ReachTask] = {}  # and the one that each waits for
        self._last: ReachTask | None = None  # added last
        self._current: ReachTask | None = None  # begun last

    @property
    def running(self) -> ReachTask | None:
        """The task that has begun and whose outcome is open."""
        current = self._current
        return current if current is not None and current.running else None

    def add(self, task: ReachTask, queued: bool, now_s: float) -> None:
        """Add a new task; one whose request is not valid ends at once and leaves others alone."""
        before, self._last = self._last, task
        self._tasks.append(task)
        if self._client.effectors and (fault := task.request.fault(self._client)):
            task.end(Outcome.ABORTED, fault, now_s)
        elif queued and before is not None:
            self._waiting[task] = before
        else:
            for waiting in self._waiting:
                waiting.end(Outcome.ABORTED, "preempted by a newer goal", now_s)
            self._waiting.clear()
            self._begin(task, now_s)

    def step(self, now_s: float) -> None:
        """Let every task do what is due, and begin or end those that wait."""
        self._step_tasks(now_s)
        if self._advance(now_s):
            self._step_tasks(now_s)
        self._tasks = [task for task in self._tasks if not task.done]

    def _step_tasks(self, now_s: float) -> None:
        for task in self._tasks:
            blocked = any(
                other.must_clear(effector)
                for other in self._tasks
                if other is not task
                for effector in task.moves
            )
            task.step(now_s, blocked)

    def _advance(self, now_s: float) -> bool:
        """Begin, end or forget the tasks that do not wait any more; whether there are any."""
        ready = [t for t, before in self._waiting.items() if not (t.running and before.running)]
        for task in ready:
            before = self._waiting.pop(task)
            if task.running and before.outcome is Outcome.SUCCEEDED:
                self._begin(task, now_s)
            else:
                reason = before.message.removeprefix(NOT_BEGUN)
                task.end(Outcome.ABORTED, f"{NOT_BEGUN}{reason}", now_s)
        return bool(ready)

    def _begin(self, task: ReachTask, now_s: float) -> None:
        old, self._current = self._current, task
        task.begin(now_s, old)
        if old is not None and old not in self._tasks:
            self._tasks.append(old)
