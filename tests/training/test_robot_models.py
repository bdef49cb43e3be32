"""Models in practice: URDFs with meshes and mimic joints, links that touch, weak joints."""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from polyreach.robot.robot_report import near_links
from polyreach_description import RobotError, load_robot

INERTIAL = (
    '<inertial><mass value="1"/>'
    '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>'
)
TETRAHEDRON = "v 0 0 0\nv {0} 0 0\nv 0 {0} 0\nv 0 0 {0}\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def link(name: str, mesh: str = "") -> str:
    shape = f'<geometry><mesh filename="{mesh}"/></geometry>' if mesh else ""
    visual = f'<visual><geometry><mesh filename="{name}.dae"/></geometry></visual>'
    collision = f"<collision>{shape}</collision>" if mesh else ""
    return f'<link name="{name}">{INERTIAL}{visual}{collision}</link>'


def joint(name: str, parent: str, child: str, extra: str = "") -> str:
    return (
        f'<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="0.2 0 0"/><axis xyz="0 0 1"/>'
        f'<limit lower="-1" upper="1" velocity="1" effort="10"/>{extra}</joint>'
    )


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A chain base - a - b - c with joints ja, jb, jc; meshes of the links by name."""

    def write(meshes: dict[str, str], extra: str = "", **changes: object) -> Path:
        package = tmp_path / "chain_description"
        (package / "urdf").mkdir(parents=True)
        for size, folder in ((0.1, "left"), (0.3, "right")):
            (package / "meshes" / folder).mkdir(parents=True)
            (package / "meshes" / folder / "part.obj").write_text(TETRAHEDRON.format(size))
        links = "".join(link(name, meshes.get(name, "")) for name in ("base", "a", "b", "c"))
        joints = joint("ja", "base", "a") + joint("jb", "a", "b") + joint("jc", "b", "c", extra)
        (package / "urdf" / "chain.urdf").write_text(f'<robot name="x">{links}{joints}</robot>')
        limits = {"velocity": 1.0, "acceleration": 5.0}
        content = {
            "name": "chain",
            "model": "chain_description/urdf/chain.urdf",
            "base_frame": "base",
            "control_rate": 50.0,
            "effectors": {"tip": {"body": "c", "offset": [0.1, 0.0, 0.0]}},
            "joints": {"ja": limits, "jb": limits, "jc": limits},
            **changes,
        }
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def refused(path: Path) -> str:
    with pytest.raises(RobotError) as caught:
        load_robot(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_meshes_are_found_in_packages_and_beside_the_file(make: Make) -> None:
    path = make(
        {
            "b": "package://chain_description/meshes/left/part.obj",
            "c": "../meshes/right/part.obj",
        }
    )
    model = load_robot(path).model
    sizes = []
    for first, count in zip(model.mesh_vertadr, model.mesh_vertnum, strict=True):
        corners = model.mesh_vert[first : first + count]
        sizes.append(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max())
    # two files of one name stay two meshes; the longest edge is that between two of the axes
    assert np.sort(sizes) == pytest.approx([0.1 * 2**0.5, 0.3 * 2**0.5], rel=1e-5)
    assert [model.geom(geom).name for geom in range(model.ngeom)] == [
        "b_collision_0",
        "c_collision_0",
    ]


def test_all_unusable_meshes_are_reported_in_one_error(make: Make) -> None:
    path = make({"a": "package://nowhere/a.stl", "c": "../meshes/left/part.glb"})
    (path.parent / "chain_description/meshes/left/part.glb").write_bytes(b"glTF")
    text = refused(path)
    assert "'package://nowhere/a.stl' is not found" in text
    assert "'../meshes/left/part.glb' is not .obj, .stl, .msh" in text
    assert "no_collision: [a, c]" in text


def test_links_in_no_collision_need_no_mesh(make: Make) -> None:
    path = make({"a": "gone.stl", "c": "../meshes/left/part.obj"}, no_collision=["a"])
    model = load_robot(path).model
    assert [model.geom(geom).name for geom in range(model.ngeom)] == ["c_collision_0"]


def test_links_that_always_touch_are_named_and_can_be_left_out(make: Make) -> None:
    part = "package://chain_description/meshes/right/part.obj"
    path = make({"a": part, "c": part}, home={"jb": 1.0, "jc": 1.0})
    content = yaml.safe_load(path.read_text())
    robot = load_robot(path)
    digest = robot.sha256
    robot.joint_pos_limits[:] = robot.home[:, None]  # folded: a touches c
    with pytest.raises(RobotError, match=r"most of them \[a, c\] touch: .* 'no_collision'"):
        robot.sample_configuration(np.random.default_rng(0), 1)
    path.write_text(yaml.safe_dump({**content, "no_collision": [["a", "c"]]}))
    free = load_robot(path)
    assert robot.in_self_collision(robot.home) and not free.in_self_collision(robot.home)
    assert free.sha256 == digest


def test_links_that_are_close_at_home_are_reported(make: Make) -> None:
    part = "package://chain_description/meshes/right/part.obj"
    path = make({"a": part, "c": part}, home={"jb": 1.0, "jc": 1.0})
    assert set(near_links(load_robot(path))) == {("a", "c")}
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "no_collision": [["c", "a"]]}))
    assert near_links(load_robot(path)) == {}


def test_links_with_a_distance_of_their_own_are_close_below_that(make: Make) -> None:
    part = "package://chain_description/meshes/left/part.obj"  # 0.1 m; the links are 0.2 m long
    path = make({"a": part, "c": part}, home={"jb": 1.0, "jc": 1.0})
    content = yaml.safe_load(path.read_text())

    def pairs(**keys: object) -> list[tuple[str, str]]:
        path.write_text(yaml.safe_dump({**content, **keys}))
        return list(near_links(load_robot(path)))

    robot = load_robot(path)
    distance = mujoco.mj_geomDistance(robot.model, robot.data_at_home(), 0, 1, 1.0, None)
    assert 0.0 < distance < 0.2
    far = {"collision_stop_distance": 0.9 * distance, "collision_slow_distance": 1.1 * distance}
    assert pairs(**far) == [("a", "c")]
    assert pairs(**far, no_collision=[["c", "a", 0.8 * distance]]) == []  # slow: 0.98
    assert pairs(**far, no_collision=[["c", "a", 0.85 * distance]]) == [("a", "c")]  # slow: 1.04


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["nose"], "unknown link 'nose' in 'no_collision' (the model has: base, a, b, c)"),
        ([["a", "nose"]], "unknown link 'nose'"),
        ([["a", "b", "c"]], "distance of [a, b] in 'no_collision' is 'c', but must be a number"),
        ([["a", "b", 0.1, 0.1]], "pairs [LINK, LINK] or [LINK, LINK, DISTANCE], must be"),
        ("a", "'no_collision' must list links and pairs"),
    ],
)
def test_errors_in_no_collision_are_reported(make: Make, value: object, reason: str) -> None:
    assert reason in refused(make({}, no_collision=value))


def test_no_collision_of_an_mjcf_body(tmp_path: Path) -> None:
    gantry = Path(__file__).parents[1] / "robots" / "gantry"
    (tmp_path / "robot.xml").write_text((gantry / "robot.xml").read_text())
    content = yaml.safe_load((gantry / "robot.yaml").read_text())
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump({**content, "no_collision": ["carriage", ["base", "column"]]}))
    model = load_robot(path).model
    own = model.geom_bodyid == model.body("carriage").id
    assert (model.geom_contype[own] == 0).all() and (model.geom_contype[~own] == 1).all()
    assert model.nexclude == load_robot(gantry / "robot.yaml").model.nexclude + 1


MIMIC = '<mimic joint="jb" multiplier="-1"/>'


def test_a_mimic_joint_cannot_be_controlled(make: Make) -> None:
    assert "joint 'jc' follows joint 'jb'" in refused(make({}, extra=MIMIC))


def test_a_mimic_joint_moves_with_its_leader(make: Make) -> None:
    limits = {"velocity": 1.0, "acceleration": 5.0}
    robot = load_robot(make({}, extra=MIMIC, joints={"ja": limits, "jb": limits}))
    assert robot.held_joints == () and len(robot.tree.parent) == 3
    # links of 0.2 m from the base at 0.2 m, tip at 0.1 m; jb turns by 0.5 rad, jc back
    x, y = 0.4 + 0.2 * np.cos(0.5) + 0.1, 0.2 * np.sin(0.5)
    assert robot.forward_kinematics([0.0, 0.5])[0] == pytest.approx([x, y, 0.0])


def test_a_mimic_joint_beyond_the_effector_is_not_in_the_tree(make: Make) -> None:
    limits = {"velocity": 1.0, "acceleration": 5.0}
    joints, effectors = {"ja": limits, "jb": limits}, {"tip": {"body": "b", "offset": [0.1, 0, 0]}}
    path = make({}, extra=MIMIC, joints=joints, effectors=effectors)
    robot = load_robot(path)
    assert robot.held_joints == () and len(robot.tree.parent) == 2
    urdf = path.parent / "chain_description/urdf/chain.urdf"
    urdf.write_text(urdf.read_text().replace(MIMIC, ""))
    assert [held.name for held in load_robot(path).held_joints] == ["jc"]
    assert load_robot(path).sha256 == robot.sha256


STRAIGHT_ARM = """<mujoco><compiler angle="radian"/><worldbody><body name="base">
  <body name="upper"><joint name="roll" axis="1 0 0" range="-3 3"/>
    <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.01" mass="1"/>
    <body name="fore" pos="0.3 0 0"><joint name="elbow" axis="0 0 1" range="-2 2"/>
      <geom type="capsule" fromto="0.05 0 0 0.3 0 0" size="0.01" mass="1"/></body></body>
</body></worldbody></mujoco>"""


def test_a_servo_follows_where_the_inertia_is_far_from_that_at_home(tmp_path: Path) -> None:
    (tmp_path / "robot.xml").write_text(STRAIGHT_ARM)
    limits = {"velocity": 2.0, "acceleration": 20.0}
    content = {
        "name": "straight",
        "model": "robot.xml",
        "base_frame": "base",
        "control_rate": 50.0,
        "effectors": {"tip": {"body": "fore", "offset": [0.3, 0.0, 0.0]}},
        "joints": {"roll": limits, "elbow": limits},
    }
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(content))
    robot = load_robot(path)
    model = robot.simulation_model()
    data = mujoco.MjData(model)
    data.qpos[:] = [0.0, np.pi / 2]
    data.ctrl[:] = [1.0, 0.0]
    while data.time < 0.2:
        mujoco.mj_step(model, data)
    assert data.qvel[0] == pytest.approx(1.0, abs=0.02)
