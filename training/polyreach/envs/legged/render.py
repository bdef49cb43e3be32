"""Pictures of robots with legs (see polyreach.envs.legged.models), seen from the side."""

import mujoco
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.legged.models import LARGEST_PICTURE
from polyreach.errors import UserError, check_range

DISTANCE = 4.0  # from the camera to the robot [m]
LOOK_AT = 0.9  # height at which it looks [m]


def render_states(
    model: mujoco.MjModel, states: Tensor, width: int = 320, height: int = 240
) -> NDArray[np.uint8]:
    """Pictures (S, height, width, 3) of states (S, N), each time, qpos, qvel as in LeggedEnv.

    The camera moves along with the torso; the squares of the floor are 0.5 m wide. Without a
    display it needs OSMesa (libosmesa6) or EGL, with MUJOCO_GL=osmesa or MUJOCO_GL=egl set before
    Python starts. Raises UserError where there is no OpenGL, or for a size that none can have.
    """
    check_range("width", width, 1, LARGEST_PICTURE)
    check_range("height", height, 1, LARGEST_PICTURE)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    if states.ndim != 2 or states.shape[1] != size:
        raise ValueError(f"states have shape {tuple(states.shape)}, expected (any, {size})")
    try:
        context = mujoco.GLContext(width, height)
        context.make_current()
        mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100).free()
        context.free()
    except Exception as error:  # every backend has errors of its own
        raise UserError(
            f"no OpenGL to draw with ({error}); without a display, set MUJOCO_GL=osmesa or "
            "MUJOCO_GL=egl before Python starts"
        ) from error
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = 90.0, -10.0, DISTANCE
    pictures = np.empty((len(states), height, width, 3), dtype=np.uint8)
    with mujoco.Renderer(model, height, width) as renderer:
        for state, picture in zip(states.double().cpu().numpy(), pictures, strict=True):
            mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
            mujoco.mj_forward(model, data)
            camera.lookat = (data.qpos[0], 0.0, LOOK_AT)
            renderer.update_scene(data, camera)
            renderer.render(out=picture)
    return pictures
