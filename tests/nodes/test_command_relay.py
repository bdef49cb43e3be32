"""The state machine of the command watchdog, and its reading of serialised messages."""

import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout, String

from polyreach_nodes.control.command_relay import (
    QUIET_TIMEOUTS,
    SLACK,
    START_S,
    CommandRelay,
    Drop,
    Output,
    State,
)
from polyreach_nodes.parameters import MAX_COMMAND_TIMEOUT_S
from polyreach_nodes.ros.command_message import MAX_METADATA_BYTES, CommandCodec, read_limits

LIMITS = (2.5, 1.0)
PERIOD_S, TIMEOUT_S = 0.02, 0.04
REST, MOTION = (0.0, 0.0), (1.0, -0.5)


@dataclass
class Hardware:
    """A relay with its timer, in simulated time, and the commands (time [s], values) that leave."""

    relay: CommandRelay = field(default_factory=lambda: CommandRelay(LIMITS, TIMEOUT_S, 0.0))
    now_s: float = 0.0
    commands: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)
    _due_s: float = 0.0

    def __post_init__(self) -> None:
        self._due_s = self.relay.deadline_s

    def wait(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._due_s <= end_s:
            self.now_s = self._due_s
            self._take(self.relay.deadline(self.now_s))
            idle = self.relay.state is State.IDLE
            self._due_s = math.inf if idle else self.now_s + self.relay.deadline_s
        self.now_s = end_s

    def send(self, values: tuple[float, ...] | None) -> Output:
        output = self.relay.command(values, self.now_s)
        self._take(output, values)
        if output is Output.COMMAND:
            self._due_s = self.now_s + self.relay.deadline_s
        return output

    def stream(self, values: tuple[float, ...], seconds: float) -> None:
        for _ in range(round(seconds / PERIOD_S)):
            self.send(values)
            self.wait(PERIOD_S)

    def resume(self) -> None:
        self.relay.resumed(self.now_s)

    def _take(self, output: Output, values: tuple[float, ...] | None = None) -> None:
        if output is not Output.NOTHING:
            assert output is Output.ZERO or values is not None
            self.commands.append((self.now_s, REST if output is Output.ZERO else values))

    @property
    def last(self) -> tuple[float, ...]:
        return self.commands[-1][1]


def moving() -> Hardware:
    hardware = Hardware()
    hardware.send(REST)
    hardware.stream(MOTION, 0.2)
    assert hardware.relay.state is State.RELAYING and hardware.last == MOTION
    return hardware


def tripped() -> Hardware:
    hardware = moving()
    hardware.wait(TIMEOUT_S)
    assert hardware.relay.state is State.TRIPPED
    return hardware


def test_zero_within_the_timeout_after_the_last_command_while_moving() -> None:
    hardware = moving()
    hardware.send(MOTION)
    sent_s = hardware.now_s
    hardware.wait(1.0)
    after = [command for command in hardware.commands if command[0] > sent_s]
    assert after[0][0] - sent_s <= TIMEOUT_S
    assert all(values == REST for _, values in after)
    assert len(after) > 20  # repeated, for hardware that starts later
    assert hardware.relay.trips == 1
    assert "no command for 0.038 s while moving" in hardware.relay.reason


def test_no_commands_after_zero_is_not_a_trip() -> None:
    hardware = moving()
    hardware.send(REST)
    count = len(hardware.commands)
    hardware.wait(10.0)
    assert hardware.relay.state is State.IDLE
    assert len(hardware.commands) == count and hardware.last == REST
    assert hardware.send(MOTION) is Output.COMMAND


def test_a_late_command_trips_before_the_timer_is_handled() -> None:
    hardware = moving()
    hardware.now_s += TIMEOUT_S
    assert hardware.send(MOTION) is Output.ZERO
    assert hardware.relay.state is State.TRIPPED


@pytest.mark.parametrize("first", ["resume", "quiet"])
def test_a_trip_ends_after_rest_and_resume_in_any_order(first: str) -> None:
    hardware = tripped()
    hardware.stream(MOTION, 0.5)
    assert hardware.relay.state is State.TRIPPED
    if first == "resume":
        hardware.resume()
        hardware.stream(MOTION, 0.5)
        assert hardware.relay.state is State.TRIPPED and hardware.last == REST
        hardware.stream(REST, 0.2)
    else:
        hardware.stream(REST, 0.2)
        assert hardware.relay.state is State.TRIPPED
        hardware.resume()
    assert hardware.send(MOTION) is Output.COMMAND
    assert hardware.relay.trips == 1


def test_no_commands_count_as_rest() -> None:
    hardware = tripped()
    hardware.wait(QUIET_TIMEOUTS * TIMEOUT_S)
    hardware.resume()
    assert hardware.relay.state is State.IDLE
    assert hardware.send(MOTION) is Output.COMMAND


@pytest.mark.parametrize("values", [None, (math.nan, 0.0), (9.0, 0.0), (0.0,), MOTION])
def test_dropped_commands_do_not_count_as_rest(values: tuple[float, ...] | None) -> None:
    hardware = tripped()
    hardware.resume()
    for _ in range(50):
        hardware.send(values)
        hardware.wait(PERIOD_S)
    assert hardware.relay.state is State.TRIPPED
    hardware.wait(QUIET_TIMEOUTS * TIMEOUT_S + TIMEOUT_S)
    assert hardware.relay.state is State.IDLE


def test_a_resume_before_the_trip_does_not_count() -> None:
    hardware = moving()
    hardware.resume()
    hardware.wait(1.0)
    assert hardware.relay.state is State.TRIPPED
    assert hardware.send(MOTION) is Output.NOTHING


def test_a_resume_ends_one_trip_only() -> None:
    hardware = tripped()
    hardware.wait(0.2)
    hardware.resume()
    hardware.stream(MOTION, 0.1)
    hardware.wait(1.0)
    assert hardware.relay.state is State.TRIPPED and hardware.relay.trips == 2


def test_zero_repeats_at_start_until_commands_are_zero_or_absent() -> None:
    hardware = Hardware()
    hardware.wait(START_S + TIMEOUT_S)
    assert hardware.relay.state is State.IDLE
    assert len(hardware.commands) > 20 and {values for _, values in hardware.commands} == {REST}
    assert hardware.send(MOTION) is Output.COMMAND


def test_motion_at_start_trips() -> None:
    hardware = Hardware()
    hardware.wait(0.3)
    assert hardware.send(MOTION) is Output.ZERO
    assert hardware.relay.reason == "commands were not zero at the start"


@pytest.mark.parametrize(
    ("values", "drop"),
    [
        (None, Drop.LENGTH),
        ((0.0,), Drop.LENGTH),
        ((0.0, 0.0, 0.0), Drop.LENGTH),
        ((math.nan, 0.0), Drop.NOT_FINITE),
        ((0.0, -math.inf), Drop.NOT_FINITE),
        ((9.0, math.nan), Drop.NOT_FINITE),
        ((2.5 + 2.1 * SLACK, 0.0), Drop.OVER_LIMIT),
        ((0.0, -1.001), Drop.OVER_LIMIT),
    ],
)
def test_bad_commands_are_dropped_and_do_not_postpone_the_deadline(
    values: tuple[float, ...] | None, drop: Drop
) -> None:
    hardware = moving()
    hardware.send(MOTION)
    sent_s = hardware.now_s
    for _ in range(100):
        assert hardware.send(values) is Output.NOTHING or hardware.relay.trips
        hardware.wait(0.001)
    zeros = [time_s for time_s, command in hardware.commands if command == REST and time_s > sent_s]
    assert zeros[0] - sent_s <= TIMEOUT_S
    assert hardware.relay.dropped[drop] == 100
    assert sum(hardware.relay.dropped.values()) == 100


def test_limits_have_slack_for_rounding() -> None:
    hardware = moving()
    assert hardware.send((2.5 + 0.5 * SLACK, -1.0 - 0.5 * SLACK)) is Output.COMMAND


COMMANDS = st.one_of(
    st.none(),
    st.just(REST),
    st.just(MOTION),
    st.lists(st.floats(width=64), max_size=4).map(tuple),
    st.tuples(st.floats(-2.6, 2.6), st.floats(-1.1, 1.1)),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), COMMANDS),
        st.tuples(st.just("stream"), st.sampled_from([REST, MOTION])),
        st.tuples(st.just("wait"), st.sampled_from([0.001, 0.02, 0.039, 0.041, 0.1, 1.5])),
        st.tuples(st.just("late"), st.sampled_from([0.039, 0.041, 1.5])),  # process held up
        st.tuples(st.just("resume"), st.none()),
        st.tuples(st.just("conflict"), st.none()),
    ),
    max_size=60,
)


@given(EVENTS)
@example([("send", REST), ("stream", MOTION), ("late", 1.5), ("send", MOTION), ("resume", None)])
@example([("conflict", None), ("resume", None), ("late", 1.5), ("send", MOTION)])
def test_nothing_bad_leaves_and_no_motion_outlives_the_timeout(events: list) -> None:
    hardware = Hardware()
    relay = hardware.relay
    quiet_s, resumed = 0.0, False  # since the last trip, by the words of the specification
    for kind, value in events:
        trips, released = relay.trips, relay.state is not State.TRIPPED
        before = len(hardware.commands)
        if kind == "stream":
            hardware.stream(value, 0.2)
        elif kind == "send":
            hardware.send(value)
        elif kind == "wait":
            hardware.wait(value)
        elif kind == "late":
            hardware.now_s += value
        elif kind == "conflict":
            hardware._take(relay.trip("conflict", hardware.now_s))
        else:
            hardware.resume()
        new = hardware.commands[before:]
        if not released and any(any(values) for _, values in new):
            raise AssertionError("motion in the same event in which the latch was closed")
        if relay.trips > trips:
            quiet_s, resumed = hardware.now_s, False
        elif not released:  # the latch was closed before this event
            resumed = resumed or kind == "resume"
            if kind in ("send", "stream") and value != REST and relay.state is State.TRIPPED:
                quiet_s = hardware.now_s - (PERIOD_S if kind == "stream" else 0.0)
            if relay.state is not State.TRIPPED:
                assert resumed
                assert hardware.now_s - quiet_s >= QUIET_TIMEOUTS * TIMEOUT_S - 1e-3
    for _, values in hardware.commands:
        assert len(values) == len(LIMITS)
        assert all(abs(v) <= limit + SLACK for v, limit in zip(values, LIMITS, strict=True))
    times = [time_s for time_s, _ in hardware.commands] + [hardware.now_s]
    held_up = any(kind == "late" for kind, _ in events)
    for (sent_s, values), next_s in zip(hardware.commands, times[1:], strict=True):
        if any(values) and not held_up:
            assert next_s - sent_s <= TIMEOUT_S + 1e-9
    hardware.wait(TIMEOUT_S)
    assert not hardware.commands or hardware.last == REST


@pytest.mark.parametrize("limits", [(), (0.0,), (-1.0,), (math.nan,), (math.inf,)])
def test_infinite_limits_are_refused(limits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="velocity limits .*: expected finite numbers above 0"):
        CommandRelay(limits, TIMEOUT_S, 0.0)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.nan, 2 * MAX_COMMAND_TIMEOUT_S])
def test_timeouts_out_of_range_are_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match=r"timeout .* s: expected 0.001 to 10"):
        CommandRelay(LIMITS, timeout_s, 0.0)


@given(st.lists(st.floats(width=64), min_size=1, max_size=9), st.integers(1, 9))
def test_commands_are_read_as_rclpy_writes_them(values: list[float], count: int) -> None:
    read = CommandCodec(count).read(serialize_message(Float64MultiArray(data=values)))
    if count != len(values):
        assert read is None
    else:
        assert read is not None
        assert all(a == b or (a != a and b != b) for a, b in zip(read, values, strict=True))


@given(st.binary(max_size=120), st.integers(0, 9))
def test_any_bytes_are_a_command_or_none(data: bytes, count: int) -> None:
    read = CommandCodec(count).read(data)
    assert read is None or len(read) == count


def test_commands_with_a_layout_are_ignored() -> None:
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label="a", size=2, stride=2)])
    message = Float64MultiArray(layout=layout, data=[1.0, 2.0])
    for count in range(12):
        assert CommandCodec(count).read(serialize_message(message)) is None


@pytest.mark.parametrize("count", [1, 8, 13])
def test_zero_is_what_rclpy_reads_as_zero(count: int) -> None:
    message = deserialize_message(CommandCodec(count).zero, Float64MultiArray)
    assert message == Float64MultiArray(data=[0.0] * count)


def metadata(**changes: object) -> dict[str, object]:
    known = {"joint_names": ["a", "b"], "joint_vel_limits": [2.5, 1], "update_rate": 50.0}
    return {**known, **changes}


def serialized(text: str) -> bytes:
    return serialize_message(String(data=text))


def test_limits_are_read_from_metadata() -> None:
    data = serialized(json.dumps(metadata(robot="näme")))
    assert read_limits(data) == ((2.5, 1.0), 50.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "[" * 50_000,
        "1" * 50_000,
        json.dumps({"x": "y" * MAX_METADATA_BYTES}),
        *(
            json.dumps(metadata(**changes))
            for changes in (
                {"joint_names": []},
                {"joint_names": None},
                {"joint_names": "ab"},
                {"joint_names": [], "joint_vel_limits": []},
                {"joint_vel_limits": [2.5, 0.0]},
                {"joint_vel_limits": [2.5, math.nan]},
                {"joint_vel_limits": [2.5, math.inf]},
                {"joint_vel_limits": [2.5, 10**400]},
                {"joint_vel_limits": [2.5, True]},
                {"joint_vel_limits": [2.5, "1"]},
                {"update_rate": 0.0},
                {"update_rate": None},
                {"update_rate": math.inf},
            )
        ),
    ],
)
def test_metadata_without_limits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="metadata"):
        read_limits(serialized(text))


@given(st.binary(max_size=60))
@example(b"\x00\x01\x00\x00\xff\xff\xff\xff{}\x00")
@example(b"\x00\x01\x00\x00\x03\x00\x00\x00\xff\xfe\x00")
def test_any_bytes_as_metadata_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="metadata"):
        read_limits(data)
