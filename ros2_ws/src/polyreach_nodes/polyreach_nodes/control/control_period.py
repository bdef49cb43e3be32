"""When a control period is due, by the robot's clock and by a steady one."""

EARLY_SHARE = 0.15  # of a period, by which a joint state may begin it before its time
LATE_SHARE = 0.5  # of a period, after which it begins without a joint state


class ControlPeriod:
    """Decides when a period begins, and how much of the robot's time has passed since the last.

    A period begins with the first joint state that comes when the last one is about over, so that
    commands rest on a new state; without joint states it begins half a period late.

    The robot's clock (the node's: /clock with use_sim_time) goes at any rate, is set back, or
    stands while the robot goes on. Once it has stood for `patience_s` of steady time, the steady
    clock replaces it, so that limits and distances are still checked in every period.
    """

    def __init__(
        self, period_s: float, patience_s: float, early_tolerance_s: float | None = None
    ) -> None:
        """period_s: of control [s of the robot's time]; patience_s: [s of steady time], longer
        than the robot's clock stands between two of its own steps; early_tolerance_s: [s] by which
        a joint state may begin a period before its time, by default EARLY_SHARE of a period.
        """
        self.patience_s = patience_s
        self.early_tolerance_s = (
            EARLY_SHARE * period_s if early_tolerance_s is None else early_tolerance_s
        )
        self.late_tolerance_s = LATE_SHARE * period_s
        self._period_ns = round(1e9 * period_s)
        self.restart(0, 0.0)

    def restart(self, clock_ns: int, steady_s: float) -> None:
        """Make a period due at once."""
        self._due_ns = self._began_ns = self._clock_ns = clock_ns
        self._advanced_s = steady_s
        self._began_on_timeout = False

    def standing_s(self, steady_s: float) -> float:
        """For how long the robot's clock has stood [s], 0 if less than patience_s."""
        standing_s = steady_s - self._advanced_s
        return standing_s if standing_s > self.patience_s else 0.0

    def begin_on_state(self, clock_ns: int, steady_s: float) -> float | None:
        """Begin a period with a new joint state, if it is due or almost: the time since the last
        one [s], else None. clock_ns: the robot's clock [ns]; steady_s: a steady one [s].
        """
        # after a period that began on timeout, periods move to where joint states come
        return self._begin(clock_ns, steady_s, -self.early_tolerance_s, self._began_on_timeout)

    def begin_on_timeout(self, clock_ns: int, steady_s: float) -> float | None:
        """Begin a period without a new joint state, if it has been due for late_tolerance_s; see
        begin_on_state.
        """
        elapsed_s = self._begin(clock_ns, steady_s, self.late_tolerance_s, False)
        self._began_on_timeout |= elapsed_s is not None
        return elapsed_s

    def _begin(self, clock_ns: int, steady_s: float, late_s: float, at_once: bool) -> float | None:
        """Begin a period if it has been due for late_s [s], or at once."""
        if clock_ns != self._clock_ns:
            self._clock_ns, self._advanced_s = clock_ns, steady_s
        period_ns, now_ns = self._period_ns, clock_ns + round(1e9 * self.standing_s(steady_s))
        wait_ns = self._due_ns + round(1e9 * late_s) - now_ns
        due = not 0 < wait_ns < 2 * period_ns  # more: the clock was set back
        if not due and not at_once:
            return None
        self._began_on_timeout = False
        in_step = due and abs(wait_ns) < period_ns
        self._due_ns = (self._due_ns if in_step else now_ns) + period_ns
        elapsed_ns, self._began_ns = now_ns - self._began_ns, now_ns
        return max(0.0, 1e-9 * elapsed_ns)
