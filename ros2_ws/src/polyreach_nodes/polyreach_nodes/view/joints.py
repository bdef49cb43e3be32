"""The configuration that the page shows, from joint states."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot

Vector = NDArray[np.float64]


class JointPositions:
    """The robot's full configuration, from joint states matched by name; held joints included."""

    def __init__(self, robot: Robot) -> None:
        model = robot.model
        names = (model.joint(joint).name for joint in range(model.njnt))
        self._address = {
            name: int(model.jnt_qposadr[joint]) for joint, name in enumerate(names) if name
        }
        self._robot = robot
        self.qpos: Vector = robot.qpos(robot.home)
        self.received_s = -np.inf  # [s, monotonic] of the last that named a joint of the robot
        self._names: list[str] = []
        self._source: list[int] = []
        self._target: list[int] = []

    def take(self, names: list[str], position: Sequence[float], now_s: float) -> None:
        """Take positions [rad or m]; a message that is malformed or not finite is ignored."""
        if len(names) != len(position):
            return
        if names != self._names:
            pairs = [
                (i, self._address[name]) for i, name in enumerate(names) if name in self._address
            ]
            self._names = list(names)
            self._source = [source for source, _ in pairs]
            self._target = [target for _, target in pairs]
        qpos = np.asarray(position, dtype=np.float64)[self._source]
        if len(qpos) and np.isfinite(qpos).all():
            self.qpos[self._target] = qpos
            # followers are often not in the message; those that are stay as measured
            self._robot.write_qpos(self.qpos, self.qpos[self._robot.qpos_adr])
            self.qpos[self._target] = qpos
            self.received_s = now_s
