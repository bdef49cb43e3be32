"""When a control period is due, by the robot's clock and by a steady one; no ROS here."""


class ControlPeriod:
    """Decides when a period begins, and how much of the robot's time has passed since the last.

    The robot's clock (the node's: /clock with use_sim_time) goes at any rate, is set back, or
    stands while the robot goes on. Once it has stood for `patience_s` of steady time, the steady
    clock stands in for it, so that limits and distances are still looked at in every period.
    """

    def __init__(self, period_s: float, patience_s: float) -> None:
        """period_s: of control [s of the robot's time]; patience_s: [s of steady time], longer
        than the robot's clock stands between two of its own steps.
        """
        self.patience_s = patience_s
        self._period_ns = round(1e9 * period_s)
        self.restart(0, 0.0)

    def restart(self, clock_ns: int, steady_s: float) -> None:
        """Make a period due at once."""
        self._due_ns = self._began_ns = self._clock_ns = clock_ns
        self._advanced_s = steady_s
        self._without_news = False

    def standing_s(self, steady_s: float) -> float:
        """For how long the robot's clock has stood [s], 0 if less than patience_s."""
        standing_s = steady_s - self._advanced_s
        return standing_s if standing_s > self.patience_s else 0.0

    def begin(self, clock_ns: int, steady_s: float, late: float = 0.0) -> float | None:
        """Begin a period if it is due: the time since the last one [s], else None.

        clock_ns: the robot's clock [ns]; steady_s: a steady one [s]; late: share of a period for
        which it has been due already, if there is no news to begin it with; 0 or less, the share by
        which it may begin before its time, if there is.
        """
        if clock_ns != self._clock_ns:
            self._clock_ns, self._advanced_s = clock_ns, steady_s
        period_ns, now_ns = self._period_ns, clock_ns + round(1e9 * self.standing_s(steady_s))
        wait_ns = self._due_ns + round(late * period_ns) - now_ns
        due, news = not 0 < wait_ns < 2 * period_ns, late <= 0.0  # more: the clock was set back
        # news after a period that began without any move the periods to where news come
        if not due and not (news and self._without_news):
            return None
        self._without_news = not news
        in_step = due and abs(wait_ns) < period_ns
        self._due_ns = (self._due_ns if in_step else now_ns) + period_ns
        elapsed_ns, self._began_ns = now_ns - self._began_ns, now_ns
        return max(0.0, 1e-9 * elapsed_ns)
