"""RRT-Connect of OMPL among obstacles. This file runs in the environment of requirements-qp.txt, as
a process that benchmarks/rrt_planner.py starts.

Messages are pickles: a Space as a dict, at first and whenever it changes, or the arguments of
`Worker.plan`, which are answered.
"""

import os
from dataclasses import dataclass
from time import process_time

import mujoco
import numpy as np
from numpy.typing import NDArray
from ompl import base, geometric, util
from worker_loop import serve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """Where to plan; see RRTSettings for the settings. nu controlled joints move the model's nv
    joints to ratios @ joint_pos + offsets.
    """

    mjcf: str
    pairs: list[tuple[str, str, float]]  # geoms, and the distance [m] that they keep
    ratios: Array  # (nv, nu)
    offsets: Array  # (nv,) [rad or m]
    joint_pos_limits: Array  # (nu, 2) [rad or m]
    joint_vel_limits: Array  # (nu,) [rad/s or m/s]
    step_s: float
    range_s: float
    checks: int
    seed: int


class Worker:
    """Plans among the obstacles of one scene, in units of time: joints by their greatest speed."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.model = mujoco.MjModel.from_xml_string(space.mjcf)
        self.data = mujoco.MjData(self.model)
        names = [pair[:2] for pair in space.pairs]
        geoms = np.array([[self.model.geom(name).id for name in pair] for pair in names])
        self.first, self.second = geoms.reshape(-1, 2).T
        self.distances = np.array([pair[2] for pair in space.pairs])
        plane = self.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        radii = np.where(plane, np.inf, self.model.geom_rbound)
        self.apart = radii[self.first] + radii[self.second] + self.distances
        self.checks = 0  # of configurations so far
        util.setLogLevel(util.LogLevel.LOG_NONE)
        util.RNG.setSeed(space.seed)

    def is_clear(self, joint_pos: Array) -> bool:
        """Whether all pairs keep their distances at joint_pos (nu,) [rad or m]."""
        self.checks += 1
        data = self.data
        data.qpos[:] = self.space.ratios @ joint_pos + self.space.offsets
        mujoco.mj_kinematics(self.model, data)
        gaps = data.geom_xpos[self.first] - data.geom_xpos[self.second]
        near = np.flatnonzero(np.einsum("pi,pi->p", gaps, gaps) < self.apart**2)
        for row in near.tolist():
            pair, least = (int(self.first[row]), int(self.second[row])), self.distances[row]
            if mujoco.mj_geomDistance(self.model, data, *pair, least, None) < least:
                return False
        return True

    def plan(self, start: Array, ends: Array) -> tuple[Array | None, float]:
        """Way points (P, nu) [rad or m] from start (nu,) to one of the ends (K, nu), both
        included, or None; and the CPU time [s].
        """
        begin = process_time()
        way = self._plan(start, [end for end in ends if self.is_clear(end)])
        return way, process_time() - begin

    def _plan(self, start: Array, ends: list[Array]) -> Array | None:
        if not ends:
            return None
        count, speeds = len(start), self.space.joint_vel_limits
        space = base.RealVectorStateSpace(count)
        bounds = base.RealVectorBounds(count)
        for joint, (low, high) in enumerate(self.space.joint_pos_limits / speeds[:, None]):
            bounds.setLow(joint, float(low))
            bounds.setHigh(joint, float(high))
        space.setBounds(bounds)

        def values(state: "base.RealVectorStateType") -> Array:
            return np.array([state[joint] for joint in range(count)]) * speeds

        def state_of(joint_pos: Array) -> "base.RealVectorStateType":
            state = space.allocState()
            for joint, value in enumerate((joint_pos / speeds).tolist()):
                state[joint] = value
            return state

        setup = geometric.SimpleSetup(space)
        setup.setStateValidityChecker(lambda state: self.is_clear(values(state)))
        information = setup.getSpaceInformation()
        resolution = self.space.step_s / space.getMaximumExtent()
        information.setStateValidityCheckingResolution(resolution)
        setup.setStartState(state_of(start))
        goal = base.GoalStates(information)
        for end in ends:
            goal.addState(state_of(end))
        setup.setGoal(goal)
        planner = geometric.RRTConnect(information)
        planner.setRange(self.space.range_s)
        setup.setPlanner(planner)
        most = self.checks + self.space.checks
        setup.solve(base.PlannerTerminationCondition(lambda: self.checks > most))
        if not setup.haveExactSolutionPath():
            return None
        path = setup.getSolutionPath()
        simplifier = setup.getPathSimplifier()
        simplifier.reduceVertices(path)
        simplifier.ropeShortcutPath(path)
        simplifier.reduceVertices(path)
        return np.array([values(state) for state in path.getStates()])


def main() -> None:
    """Answer messages until the input ends."""
    serve(lambda message: Worker(Space(**message)).plan)
    os._exit(0)  # OMPL's bindings complain of leaks at a normal exit


if __name__ == "__main__":
    main()
