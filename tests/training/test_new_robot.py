"""polyreach robot new: drafts of a robot.yaml, against shipped ones and models made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from polyreach.cli import main
from polyreach.robot.robot_report import check_robot
from polyreach_description import Robot, RobotError, load_robot
from polyreach_description.config_file import RobotFile, read_robot_file
from polyreach_description.draft import draft_robot
from polyreach_description.draft_text import decisions, draft_text
from polyreach_description.draft_yaml import new_robot_yaml, yaml_name
from polyreach_description.robot import ROBOTS_DIR
from polyreach_description.self_collision import touching_links

SHIPPED = ("planar8", "humanoid27", "dual7")
PICKER = Path(__file__).parents[1] / "robots" / "picker" / "robot.urdf"


def drafted(model: Path, folder: Path) -> RobotFile:
    """The robot.yaml of a model, as it is read again."""
    path = folder / "robot.yaml"
    path.write_text(draft_text(draft_robot(model), str(model)))
    return read_robot_file(path)


def of_mjcf(body: str, folder: Path, more: str = "") -> RobotFile:
    """The robot.yaml of an MJCF with these bodies."""
    model = folder / "model.xml"
    compiler = '<compiler angle="radian" autolimits="true"/>'
    model.write_text(f"<mujoco>{compiler}<worldbody>{body}</worldbody>{more}</mujoco>")
    return drafted(model, folder)


def link(
    name: str, *children: str, joint: str = "", size: float = 0.01, pos: str = "0.3 0 0"
) -> str:
    """A body with a small sphere at its end and a hinge."""
    hinge = joint or f'<joint name="{name}_joint" axis="0 0 1" range="-1 1"/>'
    shape = f'<geom type="sphere" size="{size}" pos="0.15 0 0" mass="0.1"/>'
    return f'<body name="{name}" pos="{pos}">{hinge}{shape}{"".join(children)}</body>'


@pytest.mark.parametrize("model", ["robot.xml", "robot.urdf"])
@pytest.mark.parametrize("name", SHIPPED)
def test_the_draft_of_a_shipped_model_agrees_with_its_robot_yaml(
    name: str, model: str, tmp_path: Path
) -> None:
    shipped, path = load_robot(name), ROBOTS_DIR / name / model
    robot = Robot(drafted(path, tmp_path))
    assert (robot.name, robot.base_frame) == (shipped.name, shipped.base_frame)
    # the shipped robots name effectors after their sites, and leave some out: head and feet
    sites = {entry.site for entry in shipped.file.effectors.values()}
    assert sites <= set(robot.effector_names)
    left = [
        row for n, row in zip(robot.effector_names, robot.action_sets, strict=True) if n in sites
    ]
    names = np.array(robot.joint_names)
    assert set(names[np.any(left, axis=0)]) == set(shipped.joint_names)
    for joint, limits, velocity in zip(
        shipped.joint_names, shipped.joint_pos_limits, shipped.joint_vel_limits, strict=True
    ):
        place = robot.joint_names.index(joint)
        assert robot.joint_pos_limits[place] == pytest.approx(limits, abs=1e-8)
        if path.suffix == ".urdf":  # the URDF has the velocities of the robot.yaml
            assert robot.joint_vel_limits[place] == pytest.approx(velocity)
    assert not touching_links(robot.model, robot.qpos(robot.home)[None])[0]
    assert check_robot(robot)["self-collision at home"] == "no"


def test_the_picker_is_checked_as_the_command_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["robot", "new", str(PICKER)]) == 0
    out = capsys.readouterr().out
    assert "wrote robot.yaml" in out and "next: polyreach robot check robot.yaml" in out
    assert "camera (4 joints: position)" in out and "acceleration limits: all are guesses" in out
    assert main(["robot", "check", "robot.yaml"]) == 0
    assert "robot 'picker' is fine" in capsys.readouterr().out
    by_hand = load_robot(PICKER.with_name("robot.yaml"))
    assert set(load_robot("robot.yaml").joint_names) == set(by_hand.joint_names)


def test_a_file_is_replaced_by_force_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("robot.yaml").write_text("mine")
    assert main(["robot", "new", str(PICKER)]) == 2
    assert "'robot.yaml' exists" in capsys.readouterr().err
    assert Path("robot.yaml").read_text() == "mine"
    assert main(["robot", "new", str(PICKER), "--force"]) == 0
    assert yaml.safe_load(Path("robot.yaml").read_text())["name"] == "picker"


def test_effectors_are_kept_by_name_with_the_joints_that_move_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(ROBOTS_DIR / "humanoid27" / "robot.xml"), str(tmp_path / "robot.yaml")
    names = ["--effectors", "right_palm", "left_palm"]
    assert main(["robot", "new", model, "--out", out, *names]) == 0
    robot, shipped = load_robot(out), load_robot("humanoid27")
    assert robot.effector_names == ("left_palm", "right_palm")
    assert robot.joint_names == shipped.joint_names
    assert "foot" not in capsys.readouterr().out
    assert main(["robot", "new", model, "--out", out, "--force", "--effectors", "tail"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "unknown effector 'tail' (the model has: " in error and "left_palm" in error
    # a link before the end of an arm, without the elbow's joint, and none that no joint moves
    new = new_robot_yaml(Path(model), model, ["left_upper_arm"])
    assert list(yaml.safe_load(new.text)["effectors"]) == ["left_upper_arm"]
    assert list(yaml.safe_load(new.text)["joints"])[-1] == "left_shoulder_yaw"
    with pytest.raises(RobotError, match="unknown effector 'world'"):
        new_robot_yaml(Path(model), model, ["world"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [("<robot name='x'><link name='a'/></robot>", "no hinge or slide joint with limits"),
     ("no XML", "cannot load"),
     ("<mujoco><worldbody><replicate count='100000'><replicate count='100000'><geom size='1'/>"
      "</replicate></replicate></worldbody></mujoco>", "stands for at least")],
)  # fmt: skip
def test_a_model_without_a_robot_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    model = tmp_path / "model.xml"
    model.write_text(content)
    with pytest.raises(RobotError, match=reason):
        new_robot_yaml(model, "model.xml")
    with pytest.raises(RobotError, match="does not exist"):
        new_robot_yaml(tmp_path / "other.xml", "other.xml")


@pytest.mark.parametrize(
    ("gap", "reason"),
    [(0.004, "always touch or are nearer than 10 mm"), (0.02, "always nearer than 25 mm, never")],
)
def test_links_always_near_are_left_out_and_others_are_not(
    gap: float, reason: str, tmp_path: Path
) -> None:
    # all turn about the same vertical, c above a; d swings away from them
    ball = '<geom type="sphere" size="0.05" mass="1"/>'
    hinge = '<joint name="{}" axis="0 0 1" range="-1 1"/>'.format
    small = '<geom type="sphere" size="0.001" mass="0.1" pos="0.4 0 0"/>'
    third = f'<body name="c" pos="0 0 {0.1 + gap}">{hinge("c")}{ball}{link("d")}</body>'
    second = f'<body name="b">{hinge("b")}{small}{third}</body>'
    body = f'<body name="a">{hinge("a")}{ball}{second}</body>'
    file = of_mjcf(body, tmp_path)
    assert [set(pair) for pair in file.no_collision] == [{"a", "c"}]
    assert reason in file.path.read_text()
    assert check_robot(Robot(file))["warnings"] == []
    (warning,) = check_robot(Robot(replace(file, no_collision=())))["warnings"]
    assert "[a, c] are always nearer than 25 mm" in warning


def test_links_that_are_always_near_and_sometimes_touch_are_to_be_decided(tmp_path: Path) -> None:
    # c turns about the vertical of a, and its bump, 100 mm from there, meets that of a
    ball = '<geom type="sphere" size="0.05" mass="1"/>'
    bump = '<geom type="sphere" size="0.03" pos="0.1 0 {}" mass="0.1"/>'.format
    hinge = '<joint name="{}" axis="0 0 1" range="-3 3"/>'.format
    small = '<geom type="sphere" size="0.001" mass="0.1" pos="0.4 0 0"/>'
    third = f'<body name="c" pos="0 0 0.115">{hinge("c")}{ball}{bump(-0.07)}{link("d")}</body>'
    second = f'<body name="b">{hinge("b")}{small}{third}</body>'
    file = of_mjcf(f'<body name="a">{hinge("a")}{ball}{bump(0.0)}{second}</body>', tmp_path)
    assert not file.no_collision
    line = next(line for line in file.path.read_text().splitlines() if "decide" in line)
    assert line.startswith("  # - [a, c] # touch in ") and "always nearer than 25 mm" in line
    assert any("[a, c]" in text for text in decisions(draft_robot(tmp_path / "model.xml")))


def test_the_fingers_of_a_hand_are_held_and_those_without_an_arm_are_effectors(
    tmp_path: Path,
) -> None:
    thumb = link("thumb", pos="0.1 0.05 0")
    finger = link("finger_1", link("finger_2", pos="0.05 0 0"), pos="0.1 -0.05 0")
    hand = link("hand", thumb, finger)
    arm = link("shoulder", link("elbow", hand))
    file = of_mjcf(arm, tmp_path)
    assert list(file.effectors) == ["hand"]
    assert set(file.joints) == {"shoulder_joint", "elbow_joint", "hand_joint"}
    assert list(of_mjcf(hand, tmp_path).effectors) == ["thumb", "finger_2"]


def test_an_effector_is_a_site_or_the_end_of_the_last_link(tmp_path: Path) -> None:
    file = of_mjcf(link("a", link("b")), tmp_path)
    assert file.effectors["b"].body == "b"
    assert file.effectors["b"].offset == pytest.approx((0.16, 0.0, 0.0))  # sphere at 0.15, 0.01
    named = link("a", link("b", '<site name="b/imu"/><site name="b/tool tip" pos="0.1 0 0"/>'))
    assert of_mjcf(named, tmp_path).effectors["b_tool_tip"].site == "b/tool tip"


def test_followers_and_joints_without_limits_are_not_controlled(tmp_path: Path) -> None:
    wheel = link("wheel", joint='<joint name="spin" axis="0 0 1"/>', pos="0 1 0")
    body = link("a", link("b"), link("c", pos="0.3 0.5 0")) + wheel
    equality = (
        '<equality><joint joint1="c_joint" joint2="b_joint" polycoef="0.1 0.5 0 0 0"/></equality>'
    )
    of_mjcf(body, tmp_path, equality)
    draft = draft_robot(tmp_path / "model.xml")
    assert [joint.name for joint in draft.joints] == ["a_joint", "b_joint"]
    assert draft.followers == ("c_joint = 0.5 b_joint + 0.1",)
    assert draft.unlimited == ("spin",)
    assert any("joints without limits are held: spin" in text for text in decisions(draft))


def test_a_floating_base_is_fixed_and_a_keyframe_named_home_is_home(tmp_path: Path) -> None:
    base = f'<body name="pelvis"><freejoint/><geom size="0.1"/>{link("a", link("b"))}</body>'
    key = '<keyframe><key name="home" qpos="0 0 0 1 0 0 0 0.2 0.3"/></keyframe>'
    file = of_mjcf(base, tmp_path, key)
    assert file.fixed_base and file.base_frame == "pelvis" and file.home_keyframe == "home"
    robot = Robot(file)
    assert dict(zip(robot.joint_names, robot.home, strict=True)) == {"a_joint": 0.2, "b_joint": 0.3}


def test_the_home_is_the_middle_unless_links_touch_there(tmp_path: Path) -> None:
    ranges = '<joint name="b_joint" axis="0 0 1" range="-3 1"/>'
    assert of_mjcf(link("a", link("b", joint=ranges)), tmp_path).home["b_joint"] == -1.0
    # in the middle, the arm is straight, and its end in the wall
    wall = '<body name="wall" pos="1.05 0 0"><geom name="wall" size="0.1"/></body>'
    robot = Robot(of_mjcf(wall + link("a", link("b", link("c"))), tmp_path))
    assert robot.in_self_collision(np.zeros(3)) and not robot.in_self_collision(robot.home)


def urdf(velocity: str) -> str:
    limit = f'<limit lower="-1" upper="1" effort="1" {velocity}/>'
    return (
        '<robot name="one arm!"><link name="base"/><link name="tool0"><inertial><mass value="1"/>'
        '<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link><link name='
        f'"arm"/><joint name="j" type="revolute"><parent link="base"/><child link="arm"/>{limit}'
        '<axis xyz="0 0 1"/></joint><joint name="f" type="fixed"><parent link="arm"/><child '
        'link="tool0"/><origin xyz="0.3 0 0"/></joint></robot>'
    )


@pytest.mark.parametrize(
    ("velocity", "expected", "source"),
    [('velocity="2.5"', 2.5, ""), ("", 1.0, "guess"), ('velocity="0"', 1.0, "guess"),
     ('velocity="400"', 30.0, "the model has 400")],
)  # fmt: skip
def test_velocity_limits_are_those_of_the_urdf_or_marked(
    velocity: str, expected: float, source: str, tmp_path: Path
) -> None:
    model = tmp_path / "arm.urdf"
    model.write_text(urdf(velocity))
    file = drafted(model, tmp_path)
    assert file.joints["j"].velocity == expected and (file.name, file.base_frame) == (
        "one_arm",
        "base",
    )
    # 0.15 s to full speed, rounded up to two digits
    assert expected / 0.15 <= file.joints["j"].acceleration <= 1.1 * expected / 0.15
    line = next(line for line in file.path.read_text().splitlines() if line.startswith("  j:"))
    assert line.partition("# velocity: ")[2] == source
    assert file.effectors["tool0"].body == "tool0"


def test_links_whose_meshes_cannot_be_used_are_named(tmp_path: Path) -> None:
    shape = '<collision><geometry><mesh filename="a.dae"/></geometry></collision>'
    mesh = f'<link name="arm">{shape}</link>'
    model = tmp_path / "arm.urdf"
    model.write_text(urdf("").replace('<link name="arm"/>', mesh))
    assert drafted(model, tmp_path).no_collision == ("arm",)
    assert any("meshes to convert" in text for text in decisions(draft_robot(model)))


@pytest.mark.parametrize("name", ["left/arm", "no", "a: b", "2", "x # y", "- z", "é", "a'b", '"'])
def test_names_are_quoted_where_yaml_needs_it(name: str) -> None:
    assert yaml.safe_load(f"{{{yaml_name(name)}: 1}}") == {name: 1}


@pytest.mark.parametrize("inertial", [True, False])
def test_the_root_link_of_a_urdf_may_always_touch(inertial: bool, tmp_path: Path) -> None:
    """With a mass or without one, the link is a body of the model."""
    inertia = '<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/>'
    mass = f'<inertial><mass value="1"/>{inertia}</inertial>'
    ball = '<collision><geometry><sphere radius="0.2"/></geometry></collision>'
    ends = '<parent link="arm"/><child link="end"/><limit lower="-1" upper="1" effort="1"/>'
    text = urdf("")
    for before, after in (
        ('<link name="base"/>', f'<link name="base">{mass if inertial else ""}{ball}</link>'),
        # a link between base and end, which turns about the middle of the base's shape
        (
            '<link name="arm"/>',
            f'<link name="arm">{mass}</link><link name="end">{mass}{ball}</link>',
        ),
        ('<parent link="arm"/><child link="tool0"/>', '<parent link="end"/><child link="tool0"/>'),
        ("</robot>", f'<joint name="k" type="revolute">{ends}<axis xyz="0 0 1"/></joint></robot>'),
    ):
        assert before in text
        text = text.replace(before, after)
    model = tmp_path / "arm.urdf"
    model.write_text(text)
    file = drafted(model, tmp_path)
    assert [set(pair) for pair in file.no_collision] == [{"base", "end"}]
    assert not Robot(file).in_self_collision(np.zeros(2))
