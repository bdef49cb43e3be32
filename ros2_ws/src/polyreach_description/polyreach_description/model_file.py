"""Load the model that a robot.yaml names, MJCF or URDF, with its effectors marked by sites."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import RobotError, RobotFile
from polyreach_description.keyframes import fix_base
from polyreach_description.plain_elements import PLAIN
from polyreach_description.urdf import link_names, load_urdf, read_urdf, root_links

UNNAMED_GEOM = "unnamed_geom_"  # name of a geom without one, with a number


def load_model(file: RobotFile) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """The model, with a site `<effector>_effector` for every effector given as a body.

    Also compiled, which may take a second per million vertices of the meshes. Raises RobotError
    with one sentence that names what is wrong and what is legal.
    """
    try:
        spec = _read(file)
        _add_sites(spec, file)
        _exclude_neighbours_of_base(spec)
        return spec, spec.compile()
    except RobotError:
        raise
    except RecursionError:
        raise RobotError(f"'{file.model}' has too many elements in each other") from None
    except ValueError as error:
        raise RobotError(
            f"MuJoCo cannot load '{file.model}': {' '.join(str(error).split())}"
        ) from None


def fixed_links(file: RobotFile, model: mujoco.MjModel) -> list[str]:
    """Names that a base frame may have: of bodies, and of a URDF's root link."""
    root = read_urdf(file.model)
    names = [model.body(body).name for body in range(model.nbody) if model.body(body).name]
    return names if root is None else [*root_links(root), *names]


def closes_loop(
    model: mujoco.MjModel,
    number: int,
    movers: NDArray[np.int64],
    controlled: NDArray[np.int64],
) -> bool:
    """Whether an equality constraint ties controlled joints to each other or to the base.

    number: of the constraint. movers: the controlled joint that moves each body last, or -1.
    controlled: joints. One joint that follows another is no loop, see coupling.py.
    """
    kind = mujoco.mjtEq(model.eq_type[number])
    first, second = int(model.eq_obj1id[number]), int(model.eq_obj2id[number])
    if kind == mujoco.mjtEq.mjEQ_JOINT:
        return second < 0 and first in controlled
    if kind in (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD):
        if model.eq_objtype[number] == mujoco.mjtObj.mjOBJ_SITE:
            first, second = (int(model.site_bodyid[site]) for site in (first, second))
        return bool(movers[first] != movers[second])
    if kind == mujoco.mjtEq.mjEQ_TENDON:
        wraps = [
            wrap
            for tendon in (first, second)
            if tendon >= 0
            for wrap in range(
                model.tendon_adr[tendon], model.tendon_adr[tendon] + model.tendon_num[tendon]
            )
        ]
        joints = model.wrap_type[wraps] == mujoco.mjtWrap.mjWRAP_JOINT
        return not joints.all() or bool(np.isin(model.wrap_objid[wraps], controlled).any())
    return True


def _read(file: RobotFile) -> mujoco.MjSpec:
    links = {entry for entry in file.no_collision if isinstance(entry, str)}
    pairs = [entry for entry in file.no_collision if not isinstance(entry, str)]
    root = read_urdf(file.model)
    if root is None:
        spec = mujoco.MjSpec.from_file(str(file.model))
        bodies = [body.name for body in spec.bodies if body.name]
        merged: list[str] = []
        for body in spec.bodies:
            for geom in body.geoms if body.name in links else ():
                geom.contype = geom.conaffinity = 0
    else:
        bodies, roots = link_names(root), root_links(root)
        spec = load_urdf(file.model, root, links)
        kept = {body.name for body in spec.bodies}
        merged = [name for name in roots if name not in kept]
    if file.fixed_base:
        fix_base(spec)
    for number, joint in enumerate(spec.joints):
        # servos are made by name
        joint.name = joint.name or f"unnamed_joint_{number}"
    for number, geom in enumerate(spec.geoms):
        # pairs of geoms are watched by name
        geom.name = geom.name or f"{UNNAMED_GEOM}{number}"
    # a URDF's links would otherwise be merged, and its effector links with them
    spec.compiler.fusestatic = False
    with_distance = [name for entry in file.pair_distances for name in entry[:2]]
    for name in (*links, *(name for pair in pairs for name in pair), *with_distance):
        if name not in bodies:
            raise RobotError(
                f"unknown link '{name}' in 'no_collision' (the model has: {', '.join(bodies)})"
            )
    for first, second in pairs:
        first, second = ("world" if name in merged else name for name in (first, second))
        spec.add_exclude(bodyname1=first, bodyname2=second)
    return spec


def _add_sites(spec: mujoco.MjSpec, file: RobotFile) -> None:
    for name, entry in file.effectors.items():
        if entry.body is not None:
            body = next((b for b in spec.bodies if b.name == entry.body), None)
            if body is None:
                legal = ", ".join(b.name for b in spec.bodies if b.name)
                raise RobotError(
                    f"unknown body '{entry.body}' of effector '{name}' (the model has: {legal})"
                )
            body.add_site(PLAIN.default, name=f"{name}_effector", pos=entry.offset)
        elif entry.site not in {site.name for site in spec.sites}:
            legal = ", ".join(site.name for site in spec.sites if site.name) or "none; use 'body:'"
            raise RobotError(
                f"unknown site '{entry.site}' of effector '{name}' (the model has: {legal})"
            )


def _exclude_neighbours_of_base(spec: mujoco.MjSpec) -> None:
    """Let links that are joined to the fixed base touch it; MuJoCo does so for moving neighbours
    only.
    """

    def exclude_below(fixed: mujoco.MjsBody) -> None:
        for body in fixed.bodies:
            if not body.joints:
                exclude_below(body)
            elif fixed.name != "world" and fixed.name and body.name:
                spec.add_exclude(bodyname1=fixed.name, bodyname2=body.name)

    exclude_below(spec.worldbody)
