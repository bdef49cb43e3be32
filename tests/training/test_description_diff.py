"""A URDF of robot_state_publisher against the model: what differs is named, by joint."""

import re
from pathlib import Path
from time import monotonic
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyreach_description import Robot, load_robot
from polyreach_description import description_check as check
from polyreach_description.description_diff import MAX_SHOWN, DescribedRobot, differences
from polyreach_description.limited import Limits
from polyreach_description.urdf_kinematics import UrdfError, UrdfTree

ROBOTS = Path(__file__).parents[1] / "robots"
SHIPPED = ("planar8", "humanoid27", "dual7")
DESCRIBED = {name: check.described_robot(load_robot(name)) for name in SHIPPED}


def changed(name: str, joint: str, **attributes: str) -> bytes:
    """The URDF of a shipped robot with `<tag>_<key>` of a joint set to another value."""
    root = ElementTree.fromstring(DESCRIBED[name].urdf)
    (element,) = (found for found in root.iterfind("joint") if found.get("name") == joint)
    for place, value in attributes.items():
        tag, _, key = place.rpartition("_")
        (element.find(tag) if tag else element).set(key, value)
    return ElementTree.tostring(root)


def found(name: str, joint: str, **attributes: str) -> list[str]:
    return differences(changed(name, joint, **attributes), DESCRIBED[name])


def chain(*links: str, base: str = "base") -> bytes:
    """A URDF with these joints, in a row from `base`."""
    names = [base, *(f"link_{number}" for number in range(len(links)))]
    text = "".join(f'<link name="{name}"/>' for name in names)
    for joint, parent, child in zip(links, names, names[1:], strict=False):
        text += joint.replace("/>", f'><parent link="{parent}"/><child link="{child}"/>', 1)
        text += "</joint>"
    return f'<robot name="chain">{text}</robot>'.encode()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_urdf_of_a_robot_agrees_with_its_model(name: str) -> None:
    assert differences(DESCRIBED[name].urdf.encode(), DESCRIBED[name]) == []


@pytest.mark.parametrize("folder", ["picker", "hand", "gantry", "welder"])
def test_models_of_every_kind_agree_with_what_they_are_made_of(folder: str) -> None:
    robot = load_robot(ROBOTS / folder / "robot.yaml")
    described, model = check.described_robot(robot), robot.file.model
    source = model.read_bytes() if model.suffix == ".urdf" else described.urdf.encode()
    assert differences(source, described) == []


@pytest.mark.parametrize("name", ["planar8", "dual7"])
def test_forward_kinematics_are_those_of_mujoco(name: str) -> None:
    robot, tree = load_robot(name), UrdfTree(DESCRIBED[name].urdf.encode())
    low, high = robot.joint_pos_limits.T
    for joint_pos in np.random.default_rng(0).uniform(low, high, (5, len(low))):
        values = DESCRIBED[name].home | dict(zip(robot.joint_names, joint_pos, strict=True))
        frames = tree.frames(values, DESCRIBED[name].base)
        ours = [frames[robot.model.site(site).name][:3, 3] for site in robot.site_ids]
        assert np.allclose(ours, robot.forward_kinematics(joint_pos), atol=1e-7)


def test_an_axis_that_is_another_is_named() -> None:
    assert found("planar8", "left_1", axis_xyz="0 2 0") == [
        "axis of joint 'left_1' at home is (-0.707, 0.707, 0) in the description, (0, 0, 1) in the "
        "model"
    ]


def test_an_axis_that_points_the_other_way_is_named() -> None:
    (text,) = found("planar8", "shared_2", axis_xyz="0 0 -1")
    assert text == (
        "axis of joint 'shared_2' at home is (0, 0, -1) in the description, (0, 0, 1) in the model"
    )


def test_a_link_that_is_longer_is_named_by_the_first_joint_behind_it() -> None:
    origin = UrdfTree(DESCRIBED["planar8"].urdf.encode()).joints["middle_2"].origin[:3, 3]
    longer = " ".join(map(str, np.add(origin, [0.02, 0.0, 0.0])))
    (text,) = found("planar8", "middle_2", origin_xyz=longer)
    assert text.startswith("joint 'middle_2' is up to 20.0 mm and 0.0 degrees off")
    (text,) = found("planar8", "middle_tip_fixed", origin_xyz="0.5 0 0")
    assert text.startswith("effector link 'middle_tip' is up to")


def test_a_zero_of_another_angle_is_named_by_what_it_moves() -> None:
    texts = found("planar8", "shared_2", origin_rpy="0 0 0.1")
    # the axis of shared_2 is where it was; what it moves is turned
    names = [re.match(r"joint '(\w+)' is up to \S+ mm and 0.0 degrees off", t)[1] for t in texts]
    assert set(names) == {"left_1", "middle_1", "right_1"}


def test_a_joint_of_another_name_is_named_on_both_sides() -> None:
    urdf = DESCRIBED["planar8"].urdf.replace('joint name="middle_1"', 'joint name="centre_1"')
    texts = differences(urdf.encode(), DESCRIBED["planar8"])
    assert len(texts) == 2 and texts[0].startswith("joint 'middle_1' is missing in the description")
    assert texts[1] == "joint 'centre_1' of the description is not in the model"


def test_the_type_of_a_joint_is_named() -> None:
    assert found("planar8", "left_1", type="prismatic") == [
        "joint 'left_1' is prismatic in the description, revolute in the model"
    ]
    assert found("planar8", "left_1", type="fixed") == [
        "joint 'left_1' is fixed in the description, revolute in the model"
    ]


def test_limits_count_where_the_model_allows_more() -> None:
    (text,) = found("planar8", "left_1", limit_upper="1.5")
    assert re.match(r"joint 'left_1' moves from \S+ to 1.5 rad in the description, from", text)
    assert found("planar8", "left_1", limit_upper="9", limit_lower="-9") == []
    assert found("planar8", "left_1", limit_velocity="2") == [
        "joint 'left_1' moves at up to 2 rad/s in the description, at 2.5 rad/s in the robot.yaml"
    ]
    assert found("planar8", "left_1", limit_velocity="20", type="continuous") == []


def test_joints_that_are_held_may_be_missing_where_they_carry_no_effector() -> None:
    fingers = changed("dual7", "left_finger_1", type="fixed")
    assert differences(fingers, DESCRIBED["dual7"]) == []


def test_a_base_frame_that_is_no_link_is_named() -> None:
    text = DESCRIBED["planar8"].urdf.replace('"base_link"', '"chassis"')
    assert differences(text.encode(), DESCRIBED["planar8"]) == [
        "base_frame 'base_link' is no link of the description"
    ]


@settings(max_examples=30, deadline=None)
@given(
    joint=st.sampled_from([*load_robot("humanoid27").joint_names]),
    shift=st.tuples(*[st.floats(0.003, 0.05)] * 3),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
)
def test_any_joint_in_another_place_is_the_first_that_is_named(
    joint: str, shift: tuple[float, ...], signs: tuple[float, ...]
) -> None:
    """No axis of humanoid27 is parallel to such a shift, so that the joint itself differs."""
    origin = UrdfTree(DESCRIBED["humanoid27"].urdf.encode()).joints[joint].origin[:3, 3]
    place = " ".join(map(str, origin + np.multiply(shift, signs)))
    (text,) = found("humanoid27", joint, origin_xyz=place)
    assert text.startswith(f"joint '{joint}' is up to ")


def test_frames_of_links_do_not_count_and_axes_do() -> None:
    """One arm twice; once with frames turned and moved, and fixed links between them."""
    limit = '<limit lower="-1" upper="1" velocity="1"/>'
    plain = chain(
        f'<joint name="a" type="revolute"/><axis xyz="0 0 1"/>{limit}',
        f'<joint name="b" type="revolute"/><origin xyz="0.3 0 0"/><axis xyz="0 1 0"/>{limit}',
    )
    split = chain(
        '<joint name="x" type="fixed"/><origin xyz="0 0 0.2" rpy="0 0 1.5707963267948966"/>',
        f'<joint name="a" type="revolute"/><origin xyz="0 0 -0.3"/><axis xyz="0 0 2"/>{limit}',
        '<joint name="y" type="fixed"/><origin xyz="0 -0.1 0.1"/>',
        f'<joint name="b" type="revolute"/><origin xyz="0.4 -0.2 0"/><axis xyz="1 0 0"/>{limit}',
    )
    robot = DescribedRobot(plain.decode(), "base", "base", {"a": 0.0, "b": 0.0}, ("a", "b"), ())
    # in `split`, forward is -y and left is x: b is 0.3 m forward, and 0.4 m left along its axis
    assert differences(split, robot) == []
    (text,) = differences(split.replace(b"-0.2 0", b"-0.21 0"), robot)
    assert text.startswith("joint 'b' is up to 10.0 mm and 0.0 degrees off")
    (text,) = differences(split.replace(b'"1 0 0"', b'"-1 0 0"'), robot)
    assert text.startswith("axis of joint 'b' at home is (0, -1, 0) in the description")


def test_a_mimic_joint_must_follow_as_in_the_model() -> None:
    robot: Robot = load_robot(ROBOTS / "hand" / "robot.yaml")
    described = check.described_robot(robot)
    mimic = re.search(r'<mimic joint="(\w+)" multiplier="([\d.]+)"', described.urdf)
    assert mimic
    wrong = described.urdf.replace(mimic[0], mimic[0].replace(mimic[2], "0.123"), 1)
    (text,) = differences(wrong.encode(), described)
    assert f"follows '{mimic[1]}' with ratio and offset 0.123" in text


BOMB = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><robot name="&b;"/>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"", "no XML"), (b"\xff\xfe", "no XML"), (b"<mujoco/>", "no XML with the root"),
     (BOMB.encode(), "DOCTYPE"),
     (b'<robot name="x"/>', "0 links"),
     (b'<robot><link name="a"/><link name="b"/></robot>', "2 links without a joint"),
     (b"<robot>" + b'<link name="a"/>' * 3000 + b"</robot>", "3000 links"),
     (chain('<joint name="a" type="screw"/>'), "type of joint 'a' is 'screw'"),
     (chain('<joint name="a" type="revolute"/><axis xyz="0 0 0"/>'), "axis of joint 'a' is zero"),
     (chain('<joint name="a" type="revolute"/><origin xyz="0 nan 0"/>'), "expected a number"),
     (chain('<joint name="a" type="revolute"/><origin rpy="0 1e300 0"/>'), "expected a number"),
     (chain('<joint name="a" type="revolute"/><axis xyz="1 0"/>'), "expected three numbers"),
     (chain(f'<joint name="{"a" * 5000}" type="fixed"/>'), "a name of 5000 characters"),
     (chain('<joint name="a" type="fixed"/>', '<joint name="a" type="fixed"/>'), "two joints are"),
     (chain('<joint name="a" type="fixed"/>').replace(b'child link="link_0"', b'child link="base"'),
      "in a circle"),
     (chain('<joint name="a" type="fixed"/>').replace(b'child link="link_0"', b'child link="no"'),
      "names link 'no', which is missing")],
)  # fmt: skip
def test_what_is_no_urdf_is_refused_by_name(text: bytes, reason: str) -> None:
    with pytest.raises(UrdfError, match=reason):
        UrdfTree(text)


def test_a_long_list_of_differences_is_cut() -> None:
    renamed = DESCRIBED["humanoid27"].urdf.replace('joint name="', 'joint name="my_')
    texts = differences(renamed.encode(), DESCRIBED["humanoid27"])
    assert len(texts) == MAX_SHOWN + 1 and re.fullmatch(r"and \d+ more", texts[-1])


def test_a_child_process_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = DESCRIBED["planar8"]
    assert check.compare(robot.urdf, robot) == []
    text = changed("planar8", "shared_2", axis_xyz="0 0 -1").decode()
    assert check.compare(text, robot) == differences(text.encode(), robot) != []
    assert check.compare("nonsense", robot) == [
        "it cannot be read: no XML with the root <robot>, or XML with a DOCTYPE"
    ]


def test_a_description_that_is_too_much_is_refused_within_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot = DESCRIBED["planar8"]
    (text,) = check.compare("x" * (check.MAX_DESCRIPTION_BYTES + 1), robot)
    assert text == "it has 4194305 bytes, expected at most 4194304"
    # 3 MB of elements in each other, and of links: refused or counted, and soon
    started_s = monotonic()
    (deep,) = check.compare("<robot>" + "<a>" * 900_000, robot)
    (many,) = check.compare("<robot>" + '<link name="a"/>' * 180_000 + "</robot>", robot)
    assert "cannot be" in deep and "180000 links" in many
    assert monotonic() - started_s < 60.0
    monkeypatch.setattr(check, "TRIAL_LIMITS", Limits(cpu_s=10, memory_bytes=2**20))
    (text,) = check.compare(robot.urdf, robot)
    assert text.startswith("it cannot be compared within the bounds: ")


def test_names_of_strangers_are_printable() -> None:
    robot = DESCRIBED["planar8"]
    (text, *_) = check.compare(robot.urdf.replace('"shared_1"', '"shared_1\u202e"'), robot)
    assert "shared_1" in text and text.isprintable()
