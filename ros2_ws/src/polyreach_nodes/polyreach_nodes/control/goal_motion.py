"""Goals that are streamed: their velocity is estimated, and they are predicted between messages.

The estimate is a Kalman filter for constant velocity with white-noise acceleration (Bar-Shalom, Li
& Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, section 6.2.2). Its
gains depend on the times of receipt alone, so they are the same for x, y and z, and, measured in
units of the noise, for rotations.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyreach_description.orientation import IDENTITY, Quaternion
from polyreach_nodes.control.rotations import Triple, rotated, rotation_vector

NOISE_M = 0.001  # [m] rms of a goal in each direction
NOISE_RAD = 0.005  # [rad] rms of its rotation about each axis
ACCELERATION = 0.25  # [m/s^2] rms of goals in each direction, constant between two of them
START_SPEED = 0.3  # [m/s] rms in each direction at the start of a stream
GATE = 5.0  # standard deviations from the prediction beyond which a goal is a jump
MANOEUVRE = 2.0  # [m/s^2] that is no jump
MAX_INTERVAL_S = 0.3  # [s] between two goals of a stream: 5 Hz, with half an interval for jitter
MIN_INTERVAL_S = 0.02  # [s] that counts at least: messages of a faster stream arrive in bursts
MIN_GOALS = 3  # of a stream before its motion counts: two alone may be two goals at rest
INTERVAL_SHARE = 0.2  # of a new interval in the mean one
AHEAD = 1.5  # intervals after a goal for which it is predicted
SETTLED = 2.5  # intervals after a goal when it stands where it was sent
MAX_LEAD = 0.1  # [m] of a target before the goal sent; 0.5 rad
LEARNING_S = 0.4  # [s] in which the lag is learned
MAX_LAG_S = 0.2  # [s] that is made up for
SLOW = 0.1  # [m/s] below which the lag is learned more slowly

Vector = NDArray[np.float64]

_SCALE = np.repeat([NOISE_M, NOISE_RAD], 3)
_VARIANCE = NOISE_M**2


class GoalStream:
    """The goals sent to one effector; the state is relative to the last of them.

    Six numbers describe a motion, x y z [m] and a rotation vector [rad], here in units of their
    noise.
    """

    def __init__(self) -> None:
        self._lag_s = 0.0  # with which the effector follows; of the drives, so it is kept
        self._sent: tuple[Triple, Quaternion] = (0.0, 0.0, 0.0), IDENTITY
        self._sent_s = 0.0
        self.forget()

    def forget(self) -> None:
        """Forget the stream: the next goal starts another one."""
        self._count = 0

    def observe(self, position: Triple, orientation: Quaternion, now_s: float) -> bool:
        """Take a goal: position (3,) [m], unit quaternion x y z w, received at now_s [s]; whether
        it may lead from now on.

        The same goal again says nothing: it may be a sender that is slower than its messages. A
        goal at rest ends the stream.
        """
        if self._count and (position, orientation) == self._sent:
            return False
        elapsed_s = now_s - self._sent_s if self._count else math.inf
        goes_on = elapsed_s <= self._end_s()
        if not (goes_on and self._update(self._way(position, orientation), elapsed_s)):
            self._start()
        self._count += 1
        self._sent, self._sent_s = (position, orientation), now_s
        return self._count >= MIN_GOALS

    def lead(self, now_s: float, error: Vector, period_s: float) -> Vector | None:
        """How far ahead of where the goal was sent its target is: (6,) [m, rad]; None: it is there.

        For streams of at least MIN_GOALS. error (3,) [m]: from the effector to where the goal was
        sent, of which the lag is learned in one control period, period_s [s].
        """
        interval_s = max(self._interval_s, MIN_INTERVAL_S)
        age_s = max(0.0, now_s - self._sent_s)
        remains = min(1.0, (SETTLED - age_s / interval_s) / (SETTLED - AHEAD))
        if remains <= 0.0:
            return None
        motion = self._offset + self._velocity * min(age_s, AHEAD * interval_s)
        if remains == 1.0:
            self._learn_lag(error + NOISE_M * motion[:3], period_s)
        lead = motion + self._velocity * self._lag_s
        length = NOISE_M * max(math.hypot(*lead[:3]), math.hypot(*lead[3:]))
        share: float = remains * min(1.0, MAX_LEAD / max(length, MAX_LEAD))
        return share * lead * _SCALE

    def _learn_lag(self, error: Vector, period_s: float) -> None:
        """Add the lag that remains; error (3,) [m]: from the effector to where the goal is now."""
        velocity = NOISE_M * self._velocity[:3]
        if math.hypot(*error) < MAX_LEAD:  # or the effector is still on its way
            lag_s = float(error @ velocity) / max(float(velocity @ velocity), SLOW**2)
            lag_s = self._lag_s + period_s / LEARNING_S * lag_s
            self._lag_s = min(max(0.0, lag_s), MAX_LAG_S)

    def _start(self) -> None:
        self._count, self._interval_s = 0, MAX_INTERVAL_S
        self._offset: Vector = np.zeros(6)  # estimated position, from where the goal was sent
        self._velocity: Vector = np.zeros(6)  # [1/s]
        self._p, self._pv, self._v = _VARIANCE, 0.0, START_SPEED**2  # covariance, in metres

    def _end_s(self) -> float:
        """Time [s] after a goal at which another one starts a stream of its own."""
        if self._count < 2:
            return MAX_INTERVAL_S
        return min(MAX_INTERVAL_S, SETTLED * max(self._interval_s, MIN_INTERVAL_S))

    def _way(self, position: Triple, orientation: Quaternion) -> Vector:
        """From the last goal to this one (6,), in units of noise."""
        before, turned = self._sent
        turn = (0.0,) * 3 if orientation == turned else rotation_vector(turned, orientation)
        way: Vector = np.array([*map(float.__sub__, position, before), *turn]) / _SCALE
        return way

    def _update(self, way: Vector, elapsed_s: float) -> bool:
        """Take the way from the last goal, elapsed_s [s] ago; False for a jump."""
        t, a = elapsed_s, ACCELERATION**2
        # P = F P F' + Q
        p = self._p + t * (2 * self._pv + t * self._v) + a * t**4 / 4
        pv = self._pv + t * self._v + a * t**3 / 2
        v = self._v + a * t**2
        # S = H P H' + R
        innovation = way - self._offset - t * self._velocity
        s = p + _VARIANCE
        size = NOISE_M * max(math.hypot(*innovation[:3]), math.hypot(*innovation[3:]))
        if size > GATE * math.sqrt(s) + MANOEUVRE * t**2:
            return False
        # K = P H' / S
        kp, kv = p / s, pv / s
        self._offset = (kp - 1.0) * innovation
        self._velocity = self._velocity + kv * innovation
        self._p, self._pv, self._v = (1 - kp) * p, (1 - kp) * pv, v - kv * pv
        share = INTERVAL_SHARE if self._count > 1 else 1.0
        self._interval_s += share * (t - self._interval_s)
        return True


class GoalMotion:
    """The streams of E effectors."""

    def __init__(self, effectors: int, period_s: float) -> None:
        """period_s: control period [s]."""
        self._period_s = period_s
        self._enabled = True
        self._streams = [GoalStream() for _ in range(effectors)]
        self._live: set[int] = set()  # effectors whose goals may be ahead of what was sent

    def enable(self, enabled: bool) -> None:
        """Whether goals are predicted at all."""
        self._enabled = enabled
        if not enabled:
            for effector in range(len(self._streams)):
                self.forget(effector)

    def observe(
        self, effector: int, position: Triple, orientation: Quaternion, now_s: float
    ) -> None:
        """Take a goal; see GoalStream.observe."""
        x, y, z = map(float, position)
        if self._enabled and self._streams[effector].observe((x, y, z), orientation, now_s):
            self._live.add(effector)

    def forget(self, effector: int) -> None:
        """End the stream: the goal stands where it is, or there is none."""
        self._live.discard(effector)
        self._streams[effector].forget()

    def targets(
        self,
        positions: Vector,
        orientations: Vector,
        effectors: Callable[[], Vector],
        box: Vector,
        now_s: float,
    ) -> tuple[Vector, Vector]:
        """Targets of this control period, for goals sent at positions (E, 3) [m] and orientations
        (E, 4). The same arrays where nothing moves.

        effectors: where these are now (E, 3) [m]; called if something moves. box (2, 3): lowest and
        highest corner, within which positions stay.
        """
        if not self._live:
            return positions, orientations
        errors = positions - effectors()
        moved, turned = positions.copy(), orientations.copy()
        for effector in tuple(self._live):
            lead = self._streams[effector].lead(now_s, errors[effector], self._period_s)
            if lead is None:
                self._live.discard(effector)
                continue
            moved[effector] = np.clip(positions[effector] + lead[:3], *box)
            if lead[3:].any():
                turned[effector] = rotated(orientations[effector].tolist(), lead[3:].tolist())
        return moved, turned
