"""Planar robots with legs, after gradient-guided-specialization-2017, section V: hoppers and a
biped.

The paper gives no sizes. These are those of the robots of the same description in its authors'
public code (dart-env: hopper_capsule, hopper_box, hopper_ellipsoid and walker2d): lengths, half
widths, masses, ranges, damping and torques below. A hopper's foot reaches from 0.13 m behind the
ankle to 0.26 m before it, that of the biped from the ankle to 0.20 m before it. The scale
multiplies lengths, widths and, as there, masses too. What differs: robots start on the floor, not
0.04 m above.

A robot moves in the plane of x (forward) and z (up): two slides and a hinge carry the torso. At
zero it stands upright on the floor with its legs straight. A positive angle turns about +y: the
torso leans forward, a leg swings backward. Parts of a robot do not touch each other.
"""

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.errors import UserError

Shape = Literal["capsule", "box", "ellipsoid"]

TIMESTEP = 0.002  # [s]
TORSO, THIGH, LEG = 0.40, 0.45, 0.50  # lengths [m]
TORSO_RADIUS, THIGH_RADIUS, LEG_RADIUS, FOOT_RADIUS = 0.05, 0.05, 0.04, 0.06  # [m]
TORSO_MASS, THIGH_MASS, LEG_MASS = 3.534, 3.927, 2.714  # [kg]
DAMPING = 1.0  # of every joint of a leg [N m s/rad]
HIP, KNEE, ANKLE = (0.0, 2.618), (0.0, 2.618), (-0.785, 0.785)  # ranges [rad]
FRICTION = (1.0, 0.005, 0.0001)  # sliding, torsional [m], rolling [m]
LARGEST_PICTURE = 2000  # side, in pixels
SHAPES: dict[Shape, mujoco.mjtGeom] = {
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}
TORSO_COLOUR, LEG_COLOURS = (0.75, 0.3, 0.2, 1.0), ((0.2, 0.4, 0.7, 1.0), (0.9, 0.6, 0.2, 1.0))


@dataclass(frozen=True)
class Legs:
    """What the legs of a robot have in common."""

    foot: tuple[float, float]
    """Where the foot begins and ends, from the ankle [m]."""
    foot_mass: float
    """[kg]."""
    torque: tuple[float, float, float]
    """Of the motors of hip, knee and ankle at action 1 [N m]."""


HOPPER_LEG = Legs(foot=(-0.13, 0.26), foot_mass=5.089, torque=(200.0, 200.0, 200.0))
BIPED_LEGS = Legs(foot=(0.0, 0.20), foot_mass=2.941, torque=(100.0, 100.0, 20.0))


def hopper_spec(
    shape: Shape = "capsule", scale: float = 1.0, torso_mass: float | None = None
) -> mujoco.MjSpec:
    """A robot with one leg: 6 positions (x, z, pitch, hip, knee, ankle), 3 motors.

    torso_mass: [kg], that of a robot of this scale if None. Raises UserError for an unknown shape.
    """
    if shape not in SHAPES:
        raise UserError(f"unknown shape '{shape}' (there are: {', '.join(SHAPES)})")
    spec, torso = _spec_with_torso(shape, scale, torso_mass)
    _add_leg(spec, torso, "", HOPPER_LEG, shape, scale, LEG_COLOURS[0])
    return spec


def biped_spec() -> mujoco.MjSpec:
    """A robot of capsules with two equal legs: 9 positions (x, z, pitch, right hip, knee, ankle,
    left hip, knee, ankle), 6 motors.
    """
    spec, torso = _spec_with_torso("capsule", 1.0, None)
    for side, colour in zip(("right_", "left_"), LEG_COLOURS, strict=True):
        _add_leg(spec, torso, side, BIPED_LEGS, "capsule", 1.0, colour)
    return spec


def _spec_with_torso(
    shape: Shape, scale: float, mass: float | None
) -> tuple[mujoco.MjSpec, mujoco.MjsBody]:
    """A floor, and a torso that moves in the plane; its frame is at its centre."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    # a state that runs away is left as it is, for the environment to see
    spec.option.disableflags = mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.visual.global_.offwidth = spec.visual.global_.offheight = LARGEST_PICTURE
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=(1.0, 1.0, 1.0),
        rgb2=(1.0, 1.0, 1.0),
        width=32,
        height=192,
    )
    spec.add_texture(
        name="squares",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=(0.85, 0.85, 0.85),
        rgb2=(0.7, 0.7, 0.7),
        width=256,
        height=256,
    )
    floor = spec.add_material(name="floor", texrepeat=(1.0, 1.0), texuniform=True)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "squares"
    world = spec.worldbody
    world.add_light(pos=(0.0, -2.0, 4.0), dir=(0.0, 0.4, -1.0), directional=True)
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0.0, 0.0, 1.0), material="floor"
    )
    half = 0.5 * TORSO * scale
    height = (FOOT_RADIUS + LEG + THIGH) * scale + half
    torso = world.add_body(name="torso", pos=(0.0, 0.0, height))
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    torso.add_joint(name="x", type=slide, axis=(1.0, 0.0, 0.0))
    torso.add_joint(name="z", type=slide, axis=(0.0, 0.0, 1.0))
    torso.add_joint(name="pitch", type=hinge, axis=(0.0, 1.0, 0.0))
    ends = (0.0, 0.0, half), (0.0, 0.0, -half)
    mass = TORSO_MASS * scale if mass is None else mass
    _add_part(torso, shape, ends, TORSO_RADIUS * scale, mass, TORSO_COLOUR)
    return spec, torso


def _add_leg(
    spec: mujoco.MjSpec,
    torso: mujoco.MjsBody,
    side: str,
    legs: Legs,
    shape: Shape,
    scale: float,
    colour: tuple[float, ...],
) -> None:
    """Thigh, leg and foot, one below the other, each turned by a motor at its upper end."""
    down = -scale * np.array([0.5 * TORSO, THIGH, LEG])  # where the parts hang [m]
    heel, toe = (scale * end for end in legs.foot)
    origin = (0.0, 0.0, 0.0)
    parts = (
        ("thigh", "hip", HIP, (origin, (0.0, 0.0, down[1])), THIGH_RADIUS, THIGH_MASS),
        ("leg", "knee", KNEE, (origin, (0.0, 0.0, down[2])), LEG_RADIUS, LEG_MASS),
        ("foot", "ankle", ANKLE, ((heel, 0.0, 0.0), (toe, 0.0, 0.0)), FOOT_RADIUS, legs.foot_mass),
    )
    body = torso
    for (part, joint, limits, ends, radius, mass), z, torque in zip(
        parts, down, legs.torque, strict=True
    ):
        body = body.add_body(name=side + part, pos=(0.0, 0.0, z))
        body.add_joint(
            name=side + joint,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=(0.0, 1.0, 0.0),
            range=limits,
            damping=DAMPING,
        )
        _add_part(body, shape, ends, radius * scale, mass * scale, colour)
        spec.add_actuator(
            name=side + joint,
            target=side + joint,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gear=(torque, 0.0, 0.0, 0.0, 0.0, 0.0),
            ctrlrange=(-1.0, 1.0),
        )


def _add_part(
    body: mujoco.MjsBody,
    shape: Shape,
    ends: tuple[tuple[float, ...], tuple[float, ...]],
    radius: float,
    mass: float,
    colour: tuple[float, ...],
) -> None:
    """The one geom of a body: between two points, `radius` wide to either side [m]; mass: [kg]."""
    body.add_geom(
        name=body.name,
        type=SHAPES[shape],
        fromto=(*ends[0], *ends[1]),
        size=(radius, 0.0, 0.0),
        mass=mass,
        friction=FRICTION,
        conaffinity=0,
        rgba=colour,
    )


def lever_arms(model: mujoco.MjModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the centre of mass of a planar robot follows from its positions.

    Returns `turns` (B, nv), 1 where a hinge turns a body, and `arms` (B, 2), along x and z [m]:
    with the angles phi = turns @ qpos, the centre of mass is at x + sum(cos(phi) arms[:, 0] +
    sin(phi) arms[:, 1]).
    """
    turns = np.zeros((model.nbody - 1, model.nv))
    arms = np.zeros((model.nbody - 1, 2))
    for body in range(1, model.nbody):
        parent = model.body_parentid[body]
        hinge = model.body_dofadr[body] + model.body_dofnum[body] - 1
        arms[body - 1] += model.body_mass[body] * model.body_ipos[body, [0, 2]]
        if parent:
            turns[body - 1] = turns[parent - 1]
            arms[parent - 1] += model.body_subtreemass[body] * model.body_pos[body, [0, 2]]
        turns[body - 1, hinge] = 1.0
    return turns, arms / model.body_subtreemass[1]
