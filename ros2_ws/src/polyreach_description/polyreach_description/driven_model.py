"""The simulated robot: gravity compensated, a drive on every joint, followers tied to leaders."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import servos
from polyreach_description.coupling import MovedJoints
from polyreach_description.plain_elements import PLAIN


def driven_model(
    spec: mujoco.MjSpec,
    model: mujoco.MjModel,
    moved: MovedJoints,
    held: Sequence[int],
    efforts: Sequence[float | None],
    qpos: NDArray[np.float64],
) -> mujoco.MjModel:
    """Compile spec, which is changed, as driven hardware.

    model: of the spec as it was. ctrl[:nu] are the velocities of the controlled joints, ctrl[nu:]
    the positions of the joints `held` (ids). efforts: (nu) [N m or N], or None. qpos (N, model.nq):
    configurations from which the largest inertia of every drive is taken; it sets the gain.

    Raises RobotError for a joint too weak for its friction, ValueError for what MuJoCo refuses.
    """
    servos.remove_actuators(spec)
    for body in spec.bodies:
        body.gravcomp = 1.0
    count = len(moved.controlled)
    motions = np.zeros((model.nv, count + len(held)))  # of the degrees of freedom with each drive
    motions[moved.dof_adr, :count] = moved.ratios
    motions[model.jnt_dofadr[list(held)], range(count, count + len(held))] = 1.0
    inertia = servos.largest_inertias(model, qpos, motions)
    for index, effort in enumerate(efforts):
        places = np.flatnonzero(moved.ratios[:, index])
        load = servos.drive_load(
            model,
            moved.ids[places],
            moved.ratios[places, index],
            moved.offsets[places],
            inertia[index],
        )
        name = model.joint(int(moved.ids[moved.controlled[index]])).name
        servos.add_velocity_servo(spec, name, load, effort)
    for index, joint in enumerate(held):
        servos.add_position_servo(spec, model.joint(joint).name, inertia[count + index])
    _tie_followers(spec, model, moved)
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    return spec.compile()


def _tie_followers(spec: mujoco.MjSpec, model: mujoco.MjModel, moved: MovedJoints) -> None:
    """Add the equalities of followers that the model does not have."""
    is_tied = (model.eq_type == mujoco.mjtEq.mjEQ_JOINT) & model.eq_active0.astype(bool)
    tied = set(model.eq_obj1id[is_tied].tolist())
    elements = {element.name: element for element in spec.joints}
    for place in moved.followers:
        follower = int(moved.ids[place])
        elements[model.joint(follower).name].frictionloss = 0.0  # see servos.add_velocity_servo
        if follower in tied:
            continue
        column = int(np.abs(moved.ratios[place]).argmax())
        leader, ratio = int(moved.ids[moved.controlled[column]]), moved.ratios[place, column]
        y0, x0 = model.qpos0[model.jnt_qposadr[[follower, leader]]].tolist()
        equality = spec.add_equality(
            PLAIN.default, name1=model.joint(follower).name, name2=model.joint(leader).name
        )
        equality.type, equality.objtype = mujoco.mjtEq.mjEQ_JOINT, mujoco.mjtObj.mjOBJ_JOINT
        # y - y0 = a0 + a1 (x - x0)
        equality.data[:5] = [moved.offsets[place] + ratio * x0 - y0, ratio, 0.0, 0.0, 0.0]
