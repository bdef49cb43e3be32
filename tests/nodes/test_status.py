"""The controller's status as key-value pairs, and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyreach_nodes.client.status import (
    ControllerStatus,
    EffectorStatus,
    StatusError,
    decode,
    encode,
    error_text,
    read_timing,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(min_value=0)
EFFECTORS = st.builds(
    EffectorStatus,
    goal=st.none() | st.tuples(FINITE, FINITE, FINITE),
    error=st.none() | FINITE,
    goals_received=COUNTS,
    goal_orientation=st.none() | st.tuples(FINITE, FINITE, FINITE, FINITE),
    angle_deg=st.none() | FINITE,
)
STATUSES = st.builds(
    ControllerStatus,
    state=st.text(min_size=1),
    message=st.text(),
    reached=st.booleans(),
    effectors=st.dictionaries(st.text(), EFFECTORS),
    rejected=st.text(),
    rejected_effector=st.text(),
    expired=st.text(),
    slowed=st.text(),
    no_progress=st.text(),
    refused_joint_states=COUNTS,
    refused_joint_state=st.text(),
    late_joint_states=COUNTS,
    obstacles=COUNTS,
    avoids_obstacles=st.booleans(),
    refused_obstacles=st.text(),
    goal_timeout_s=FINITE,
    compute_max_ms=st.none() | FINITE,
    recording=st.text(),
    received_s=FINITE,
)
KEYS = st.sampled_from(
    [
        *encode(ControllerStatus()),
        *(
            f"{key}/left"
            for key in ("goal", "goal_orientation", "error", "angle_error", "received")
        ),
        "goal/",
        "other",
    ]
)
VALUES = st.text() | st.sampled_from(
    [
        "nan",
        "inf",
        "1e999",
        "-1",
        "1 2 3",
        "1 2 nan",
        "0 0 0 1",
        "1 2",
        "true",
        "9" * 5000,
        "0x10",
        "1_0",
    ]
)


@given(STATUSES)
def test_decoding_is_the_inverse_of_encoding(status: ControllerStatus) -> None:
    assert decode(encode(status), status.message, status.received_s) == status


@given(st.dictionaries(KEYS | st.text(), VALUES), st.booleans())
def test_arbitrary_values_decode_or_raise_a_status_error(
    values: dict[str, str], has_state: bool
) -> None:
    try:
        status = decode({**values, "state": "ACTIVE"} if has_state else values)
    except StatusError:
        return
    assert status.state
    for effector in status.effectors.values():
        errors = [error for error in (effector.error, effector.angle_deg) if error is not None]
        numbers = (*(effector.goal or ()), *(effector.goal_orientation or ()), *errors)
        assert all(map(math.isfinite, numbers)) and effector.goals_received >= 0
    assert all(map(math.isfinite, read_timing(values).values()))


def test_a_status_of_another_version_is_read_as_far_as_it_goes() -> None:
    assert decode({"state": "INACTIVE", "new key": "7"}, "INACTIVE", 2.0) == ControllerStatus(
        state="INACTIVE", message="INACTIVE", received_s=2.0
    )
    assert decode({"state": "ACTIVE", "goal/left": "1 2 3"}).effectors == {
        "left": EffectorStatus(goal=(1.0, 2.0, 3.0))
    }


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "the status has no value 'state'"),
        ({"state": ""}, "the status has no value 'state'"),
        ({"goal/left": "1 2"}, "'goal/left' is '1 2', but must be three finite numbers"),
        ({"goal/left": "1 2 nan"}, "'goal/left' is '1 2 nan', but must be three finite numbers"),
        ({"error/left": "far"}, "'error/left' is 'far', but must be a finite number"),
        ({"angle_error/left": "inf"}, "'angle_error/left' is 'inf', but must be a finite number"),
        (
            {"goal_orientation/left": "0 0 1"},
            "'goal_orientation/left' is '0 0 1', but must be four finite numbers",
        ),
        ({"received/left": "-1"}, "'received/left' is '-1', but must be a number of goals"),
        ({"reached": "yes"}, "'reached' is 'yes', but must be 'true' or 'false'"),
        ({"goal_timeout": "inf"}, "'goal_timeout' is 'inf', but must be a finite number"),
    ],
)
def test_what_cannot_be_read_is_named(values: dict[str, str], complaint: str) -> None:
    with pytest.raises(StatusError, match=complaint):
        decode({"state": "ACTIVE", **values} if values else values)


def test_angles_are_published_in_degrees_and_shown_with_the_distance() -> None:
    effector = EffectorStatus((1.0, 2.0, 3.0), 0.012, 1, (0.0, 0.0, 0.6, 0.8), 3.14)
    values = encode(ControllerStatus(state="ACTIVE", effectors={"left": effector}))
    assert values["goal_orientation/left"] == "0.0 0.0 0.6 0.8"
    assert values["angle_error/left"] == "3.14"
    assert effector.angle == pytest.approx(0.054803, abs=1e-6)
    assert error_text(0.012, effector.angle) == "12 mm, 3.1 deg"
    assert error_text(1.2) == "1200 mm"


def test_an_effector_without_a_status_has_neither_goal_nor_error() -> None:
    assert decode({"state": "IDLE"}).effector("left") == EffectorStatus()


@pytest.mark.parametrize(
    ("state", "message", "reason"),
    [
        ("ACTIVE", "ACTIVE", ""),
        ("STALE", "STALE: joint state is older", "joint state is older"),
        ("IDLE", "IDLE (goal of 'left' expired)", "(goal of 'left' expired)"),
    ],
)
def test_the_reason_is_the_message_without_the_state(state: str, message: str, reason: str) -> None:
    assert ControllerStatus(state=state, message=message).reason == reason


def test_times_are_read_and_other_values_left_out() -> None:
    values = {"loop period p99 [ms]": "20.5", "compute p50 [ms]": "fast", "state": "ACTIVE"}
    assert read_timing(values) == {"loop period p99 [ms]": 20.5}
