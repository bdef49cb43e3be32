"""Write a robot as URDF with a `<ros2_control>` block, for robot_state_publisher and ros2_control.

The text is computed from `robot.model`, so that it agrees with the model the policy was trained on.

A URDF joint has its frame at the joint, and a link has one joint. A MuJoCo body may have several
joints, with anchors of their own. Every joint but a body's last one, and a last one with an anchor
off the body's origin, therefore gets a link `<joint>_link` of MIN_MASS. Links named after bodies
have the bodies' frames. URDF has no element for armature, contact exclusions and planes, which
are left out.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import RobotError
from polyreach_description.robot import Robot

ROOT_LINK = "world"
MOCK_PLUGIN = "mock_components/GenericSystem"
MOCK_PARAMETERS = {"calculate_dynamics": "true"}  # the mock integrates velocities only with it
UNKNOWN_EFFORT = 1000.0  # [N m or N], written where robot.yaml gives no effort: URDF needs one
MIN_MASS = 1e-6  # [kg], of links between the joints of one body: moving links need some
MIN_INERTIA = 1e-9  # [kg m^2]
DIGITS = 9

Vector = NDArray[np.float64]
_GEOM = mujoco.mjtGeom
_SLIDE = mujoco.mjtJoint.mjJNT_SLIDE


def robot_to_urdf(
    robot: Robot, plugin: str = MOCK_PLUGIN, parameters: Mapping[str, str] | None = None
) -> str:
    """The robot as URDF text.

    plugin: the hardware component of ros2_control that drives the joints; parameters: its
    parameters (default: those the mock needs, none for others). Controlled joints get a velocity
    and a position command interface with their limits; all joints get position and velocity state
    interfaces, with home as the initial value. Every effector is a fixed link named as its site.

    Geoms become spheres, boxes and cylinders, a capsule a cylinder and two spheres, any other shape
    but a plane the box around it. Joints that robot.yaml does not name get the smallest velocity
    limit of those that it does.

    Raises RobotError if two links would have the same name.
    """
    if parameters is None:
        parameters = MOCK_PARAMETERS if plugin == MOCK_PLUGIN else {}
    root = Element("robot", name=robot.name)
    tree = _LinkTree(robot, root)
    SubElement(root, "link", name=ROOT_LINK)
    for body in range(1, robot.model.nbody):
        tree.add_body(body)
    for site in robot.site_ids:
        tree.add_effector(int(site))
    root.append(_ros2_control(robot, plugin, parameters))
    links = [link.get("name") for link in root.iterfind("link")]
    for name in links:
        if links.count(name) > 1:
            raise RobotError(
                f"robot '{robot.name}' cannot be written as URDF: two links would be named "
                f"'{name}' (links are named after bodies, effector sites and '<joint>_link')"
            )
    ElementTree.indent(root)
    header = f'<?xml version="1.0"?>\n<!-- Written by `polyreach robot urdf {robot.name}`. -->\n'
    return header + ElementTree.tostring(root, encoding="unicode") + "\n"


class _LinkTree:
    """Appends links and joints to the root element."""

    def __init__(self, robot: Robot, root: Element) -> None:
        self.robot, self.model, self.root = robot, robot.model, root
        self.names = [ROOT_LINK] + [
            self.model.body(body).name or f"body_{body}" for body in range(1, self.model.nbody)
        ]
        limits = dict(zip(robot.joint_names, robot.joint_vel_limits.tolist(), strict=True))
        self.least_velocity = min(limits.values())
        self.velocity = limits | {
            name: abs(coupling.ratio) * limits[coupling.leader]
            for name, coupling in robot.couplings.items()
            if coupling.leader in limits
        }

    def add_body(self, body: int) -> None:
        """Add the links between a body's parent and the body, and the body itself."""
        model = self.model
        parent = self.names[model.body_parentid[body]]
        position, rotation = model.body_pos[body].copy(), _matrix(model.body_quat[body])
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        back = np.zeros(3)  # from the last joint's anchor to the body's origin
        for joint in range(first, first + count):
            anchor, axis = model.jnt_pos[joint], model.jnt_axis[joint]
            reference = float(model.qpos0[model.jnt_qposadr[joint]])
            slides = model.jnt_type[joint] == _SLIDE
            position = position + rotation @ (back + (0.0 if slides else anchor))
            # the pose at joint value 0, which a MuJoCo joint has at displacement -reference
            if slides:
                back = np.zeros(3)
                position = position - rotation @ (axis * reference)
            else:
                back = -anchor
                rotation = rotation @ _turn(axis, -reference)
            last = joint == first + count - 1 and not back.any()
            child = self.names[body] if last else f"{model.joint(joint).name}_link"
            self._joint(joint, parent, child, position, rotation)
            if not last:
                inertia = MIN_INERTIA * np.eye(3)
                self.root.append(_link(child, MIN_MASS, np.zeros(3), inertia))
            parent, position, rotation = child, np.zeros(3), np.eye(3)
        if not count or back.any():
            name = f"{self.names[body]}_fixed"
            _fixed(self.root, name, parent, self.names[body], position + back, rotation)
        self.root.append(self._body_link(body))

    def add_effector(self, site: int) -> None:
        """Add a fixed link at an effector's site."""
        model = self.model
        name = model.site(site).name
        parent = self.names[model.site_bodyid[site]]
        rotation = _matrix(model.site_quat[site])
        _fixed(self.root, f"{name}_fixed", parent, name, model.site_pos[site], rotation)
        SubElement(self.root, "link", name=name)

    def _joint(
        self, joint: int, parent: str, child: str, position: Vector, rotation: Vector
    ) -> None:
        model, name = self.model, self.model.joint(joint).name
        slides, limited = model.jnt_type[joint] == _SLIDE, bool(model.jnt_limited[joint])
        kind = "prismatic" if slides else "revolute" if limited else "continuous"
        element = SubElement(self.root, "joint", name=name, type=kind)
        _origin(element, position, rotation)
        SubElement(element, "parent", link=parent)
        SubElement(element, "child", link=child)
        SubElement(element, "axis", xyz=_numbers(model.jnt_axis[joint]))
        entry = self.robot.file.joints.get(name)
        effort = entry.effort if entry and entry.effort is not None else UNKNOWN_EFFORT
        limit = {
            "effort": _number(effort),
            "velocity": _number(self.velocity.get(name, self.least_velocity)),
        }
        if limited:
            low, high = model.jnt_range[joint]
            limit = {"lower": _number(low), "upper": _number(high), **limit}
        elif slides:
            limit = {"lower": "-1e6", "upper": "1e6", **limit}
        SubElement(element, "limit", limit)
        if name in self.robot.couplings:
            coupling = self.robot.couplings[name]
            numbers = {"multiplier": _number(coupling.ratio), "offset": _number(coupling.offset)}
            SubElement(element, "mimic", {"joint": coupling.leader, **numbers})
        dof = model.jnt_dofadr[joint]
        damping, friction = model.dof_damping[dof], model.dof_frictionloss[dof]
        SubElement(element, "dynamics", damping=_number(damping), friction=_number(friction))

    def _body_link(self, body: int) -> Element:
        model = self.model
        principal = _matrix(model.body_iquat[body])
        inertia = principal @ np.diag(model.body_inertia[body]) @ principal.T
        link = _link(self.names[body], model.body_mass[body], model.body_ipos[body], inertia)
        first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
        parts = [
            (f"{model.geom(geom).name}{suffix}", geom, shape)
            for geom in range(first, first + count)
            for suffix, shape in _shapes(model, geom)
        ]
        for name, geom, shape in parts:
            visual = SubElement(link, "visual", name=name)
            visual.extend(shape)
            visual.append(_material(model.geom_rgba[geom]))
        for name, geom, shape in parts:
            if model.geom_contype[geom] or model.geom_conaffinity[geom]:
                SubElement(link, "collision", name=name).extend(deepcopy(shape))
        return link


def _link(name: str, mass: float, centre: Vector, inertia: Vector) -> Element:
    link = Element("link", name=name)
    if mass > 0:
        inertial = SubElement(link, "inertial")
        _origin(inertial, centre, np.eye(3))
        SubElement(inertial, "mass", value=_significant(mass))
        values = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2)}
        values |= {"iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
        size = np.abs(inertia).max()
        rounded = np.where(np.abs(inertia) < 1e-12 * size, 0.0, inertia)
        attributes = {key: _significant(rounded[place]) for key, place in values.items()}
        SubElement(inertial, "inertia", attributes)
    return link


def _shapes(model: mujoco.MjModel, geom: int) -> list[tuple[str, list[Element]]]:
    """The shapes of a geom in the frame of its body, each with a suffix of its name."""
    kind = model.geom_type[geom]
    size, position = model.geom_size[geom], model.geom_pos[geom]
    rotation = _matrix(model.geom_quat[geom])
    radius = _number(size[0])
    if kind in (_GEOM.mjGEOM_PLANE, _GEOM.mjGEOM_HFIELD):
        return []
    if kind == _GEOM.mjGEOM_SPHERE:
        return [("", _shape(position, rotation, "sphere", radius=radius))]
    if kind in (_GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_CAPSULE):
        length = _number(2 * size[1])
        shapes = [("", _shape(position, rotation, "cylinder", radius=radius, length=length))]
        if kind == _GEOM.mjGEOM_CAPSULE:
            for suffix, side in (("_start", -1), ("_end", 1)):
                centre = position + side * size[1] * rotation[:, 2]
                shapes.append((suffix, _shape(centre, np.eye(3), "sphere", radius=radius)))
        return shapes
    if kind == _GEOM.mjGEOM_BOX:
        return [("", _shape(position, rotation, "box", size=_numbers(2 * size)))]
    centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    position = position + rotation @ centre
    return [("", _shape(position, rotation, "box", size=_numbers(2 * half)))]


def _shape(position: Vector, rotation: Vector, kind: str, **attributes: str) -> list[Element]:
    holder = Element("holder")
    _origin(holder, position, rotation)
    SubElement(SubElement(holder, "geometry"), kind, attributes)
    return list(holder)


def _material(rgba: Vector) -> Element:
    colour = " ".join(_number(round(float(value), 4)) for value in rgba)
    material = Element("material", name=f"rgba_{colour.replace(' ', '_')}")
    SubElement(material, "color", rgba=colour)
    return material


def _fixed(
    root: Element, name: str, parent: str, child: str, position: Vector, rotation: Vector
) -> None:
    joint = SubElement(root, "joint", name=name, type="fixed")
    _origin(joint, position, rotation)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)


def _ros2_control(robot: Robot, plugin: str, parameters: Mapping[str, str]) -> Element:
    system = Element("ros2_control", name=f"{robot.name}_hardware", type="system")
    hardware = SubElement(system, "hardware")
    SubElement(hardware, "plugin").text = plugin
    for key, value in parameters.items():
        SubElement(hardware, "param", name=key).text = value
    qpos = robot.qpos(robot.home)
    limits = {
        name: {"velocity": (-top, top), "position": (low, high)}
        for name, top, (low, high) in zip(
            robot.joint_names, robot.joint_vel_limits, robot.joint_pos_limits, strict=True
        )
    }
    for joint in range(robot.model.njnt):
        name = robot.model.joint(joint).name
        element = SubElement(system, "joint", name=name)
        for interface, (least, most) in limits.get(name, {}).items():
            command = SubElement(element, "command_interface", name=interface)
            SubElement(command, "param", name="min").text = _number(least)
            SubElement(command, "param", name="max").text = _number(most)
        position = SubElement(element, "state_interface", name="position")
        SubElement(position, "param", name="initial_value").text = _number(
            qpos[robot.model.jnt_qposadr[joint]]
        )
        SubElement(element, "state_interface", name="velocity")
    return system


def _origin(element: Element, position: Vector, rotation: Vector) -> None:
    SubElement(element, "origin", xyz=_numbers(position), rpy=_numbers(_roll_pitch_yaw(rotation)))


def _matrix(quaternion: Vector) -> Vector:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def _turn(axis: Vector, angle: float) -> Vector:
    quaternion = np.empty(4)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    return _matrix(quaternion)


def _roll_pitch_yaw(rotation: Vector) -> Vector:
    """Angles (3,) [rad] of R = Rz(yaw) Ry(pitch) Rx(roll); roll is 0 where it is not unique."""
    across = math.hypot(rotation[0, 0], rotation[1, 0])
    pitch = math.atan2(-rotation[2, 0], across)
    if across < 1e-9:
        return np.array([0.0, pitch, math.atan2(-rotation[0, 1], rotation[1, 1])])
    roll = math.atan2(rotation[2, 1], rotation[2, 2])
    return np.array([roll, pitch, math.atan2(rotation[1, 0], rotation[0, 0])])


def _number(value: float) -> str:
    """Decimals to DIGITS places, the same on every machine."""
    text = f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _significant(value: float) -> str:
    return f"{value + 0.0:.{DIGITS}g}"


def _numbers(values: Vector) -> str:
    return " ".join(_number(float(value)) for value in values)
