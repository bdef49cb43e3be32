"""Recordings are read back with the standard readers, complete, truncated, after failures."""

import signal
import struct
import subprocess
import sys
from array import array
from contextlib import suppress
from pathlib import Path
from time import monotonic, perf_counter, sleep, time_ns

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap_ros2.reader import read_ros2_messages
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import BatteryState, Imu, JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, String
from trajectory_msgs.msg import JointTrajectory

from polyreach_nodes.recording import mcap as recording
from polyreach_nodes.recording.cdr import length_of
from polyreach_nodes.recording.mcap import Recorder, RecordingError, message_definition

TOPICS = {
    "/joint_states": JointState,
    "/controller/goals/left": PoseStamped,
    "/controller/commands": Float64MultiArray,
    "/controller/status": DiagnosticStatus,
}


def some_messages(count: int) -> list[tuple[str, object, int]]:
    """Messages of all topics with values that differ, and their times [ns]."""
    rng = np.random.default_rng(0)
    messages: list[tuple[str, object, int]] = []
    for number in range(count):
        state = JointState(name=["a", "ü"], position=array("d", rng.normal(size=2)))
        state.header.stamp.sec, state.header.stamp.nanosec = number, 999_999_999
        state.velocity = array("d", [float("inf"), -0.0])
        goal = PoseStamped()
        goal.header.frame_id = "base_link"
        goal.pose.position.x, goal.pose.orientation.w = float(rng.normal()), 1.0
        command = Float64MultiArray(data=array("d", rng.normal(size=number % 4)))
        command.layout.dim.append(MultiArrayDimension(label="joint", size=number, stride=2))
        status = DiagnosticStatus(level=DiagnosticStatus.STALE, name="x", message="old")
        status.values = [KeyValue(key="state", value="ACTIVE"), KeyValue(key="empty", value="")]
        for topic, message in zip(TOPICS, (state, goal, command, status), strict=True):
            messages.append((topic, message, 1_700_000_000_000_000_000 + len(messages) * 10**6))
    return messages


def plain(message: object) -> object:
    """A message of rclpy, mcap_ros2 or rosbags as nested lists of plain values."""
    fields = getattr(type(message), "_fields_and_field_types", None) or getattr(
        message, "__slots__", None
    )
    if fields is None:
        fields = getattr(message, "__dataclass_fields__", None)
    if isinstance(message, bytes):
        return message[0]
    if isinstance(message, list | tuple | array | np.ndarray):
        return [plain(item) for item in message]
    if fields is None:
        return message
    names = (name.lstrip("_") for name in fields if not name.isupper())  # constants are upper case
    return {name: plain(getattr(message, name)) for name in sorted(names) if name != "msgtype__"}


def record(path: Path, messages: list[tuple[str, object, int]]) -> Recorder:
    recorder = Recorder(path, TOPICS)
    for topic, message, stamp_ns in messages:
        recorder.write(topic, message, stamp_ns)
    recorder.close()
    assert recorder.error == "" and recorder.dropped == 0
    return recorder


def read_cut_off(path: Path) -> list[Message]:
    """The messages of a file that may end anywhere."""
    actual: list[Message] = []
    with path.open("rb") as file, suppress(EndOfFile, struct.error):
        records = StreamReader(file, validate_crcs=True).records
        actual.extend(record for record in records if isinstance(record, Message))
    return actual


def test_every_value_is_read_back_by_the_readers_of_mcap(tmp_path: Path) -> None:
    messages = some_messages(50)
    path = record(tmp_path / "run.mcap", messages).path
    read = list(read_ros2_messages(path))
    assert [(m.channel.topic, m.log_time_ns, m.publish_time_ns) for m in read] == [
        (topic, stamp_ns, stamp_ns) for topic, _, stamp_ns in messages
    ]
    for (_, sent, _), got in zip(messages, read, strict=True):
        assert plain(got.ros_msg) == plain(sent)
    assert [m.sequence_count for m in read if m.channel.topic == "/joint_states"] == [*range(50)]
    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert reader.get_header().profile == "ros2"
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 200
        assert {schema.name for schema in summary.schemas.values()} == {
            "sensor_msgs/msg/JointState",
            "geometry_msgs/msg/PoseStamped",
            "std_msgs/msg/Float64MultiArray",
            "diagnostic_msgs/msg/DiagnosticStatus",
        }
        for _, channel, message in reader.iter_messages():
            assert channel.message_encoding == "cdr"
            assert deserialize_message(message.data, TOPICS[channel.topic])


def test_every_value_is_read_back_by_the_bag_reader_of_rosbags(tmp_path: Path) -> None:
    anyreader = pytest.importorskip("rosbags.highlevel")
    messages = some_messages(20)
    path = record(tmp_path / "run.mcap", messages).path
    with anyreader.AnyReader([path]) as reader:
        read = [
            (connection.topic, stamp_ns, reader.deserialize(data, connection.msgtype))
            for connection, stamp_ns, data in reader.messages()
        ]
    assert len(read) == len(messages)
    for (topic, sent, stamp_ns), (read_topic, read_ns, got) in zip(messages, read, strict=True):
        assert (read_topic, read_ns) == (topic, stamp_ns)
        assert plain(got) == plain(sent)


@pytest.mark.parametrize("kind", [*TOPICS.values(), JointTrajectory, Imu, BatteryState])
def test_trailing_bytes_of_a_message_are_removed(kind: type) -> None:
    message = kind()
    data = serialize_message(message)
    length = length_of(kind)(data)
    assert length <= len(data)
    assert length_of(kind)(data + b"more") == length
    assert deserialize_message(data[:length], kind) == message


def test_the_length_of_a_message_by_hand() -> None:
    # header 4; stamp 8, frame_id 4 + 1; to 16: name 4 + (4 + 2); to 28: position 4 + 8; 2 x 4
    data = serialize_message(JointState(name=["a"], position=[1.0]))
    assert length_of(JointState)(data) == 4 + 48
    assert length_of(String)(serialize_message(String(data="abc"))) == 4 + 4 + 4


def test_definitions_hold_all_nested_messages_once() -> None:
    text = message_definition(PoseStamped)
    assert text.split("=" * 80)[0].strip().endswith("Pose pose")
    heads = [line for line in text.splitlines() if line.startswith("MSG: ")]
    assert sorted(heads) == [
        "MSG: builtin_interfaces/Time",
        "MSG: geometry_msgs/Point",
        "MSG: geometry_msgs/Pose",
        "MSG: geometry_msgs/Quaternion",
        "MSG: std_msgs/Header",
    ]
    assert "byte STALE=3" in message_definition(DiagnosticStatus)


def test_a_message_without_a_definition_is_named(tmp_path: Path) -> None:
    unknown = type("Unknown", (JointState,), {"__module__": __name__})
    with pytest.raises(RecordingError, match="no definition of message '.*/msg/Unknown'"):
        Recorder(tmp_path / "run.mcap", {"/x": unknown})
    assert not list(tmp_path.iterdir())


def test_a_message_is_recorded_as_it_was_when_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run.mcap", {"/text": String})
    message = String()
    for word in ("one", "two", "three"):
        message.data = word
        recorder.write("/text", message, time_ns())
    recorder.close()
    assert [m.ros_msg.data for m in read_ros2_messages(recorder.path)] == ["one", "two", "three"]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    first = record(tmp_path / "run.mcap", some_messages(1)).path
    whole = first.read_bytes()
    others = [record(tmp_path / "run.mcap", some_messages(2)).path for _ in range(2)]
    assert [path.name for path in (first, *others)] == ["run.mcap", "run-2.mcap", "run-3.mcap"]
    assert first.read_bytes() == whole
    assert [len(list(read_ros2_messages(path))) for path in others] == [8, 8]


def test_a_long_recording_continues_in_further_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "PART_S", 0.2)
    recorder = Recorder(tmp_path / "run.mcap", {"/text": String})
    sent = []
    while recorder.path.name != "run-3.mcap":
        assert len(sent) < 1000 and not recorder.error
        sent.append(str(len(sent)))
        recorder.write("/text", String(data=sent[-1]), time_ns())
        sleep(0.01)
    recorder.close()
    parts = [tmp_path / name for name in ("run.mcap", "run-2.mcap", "run-3.mcap")]
    actual = [[m.ros_msg.data for m in read_ros2_messages(part)] for part in parts]
    assert [text for part in actual for text in part] == sent
    assert all(actual[:2])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("run.bag", "ends in .mcap, but the path is"),
        ("missing/run.mcap", "missing/run.mcap' cannot be written: No such file or directory"),
        ("file/run.mcap", "file/run.mcap' cannot be written: Not a directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=reason):
        Recorder(tmp_path / path, TOPICS)


def test_flushed_data_is_readable_after_truncation_anywhere(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run.mcap", TOPICS)
    messages = some_messages(100)
    for topic, message, stamp_ns in messages[:200]:
        recorder.write(topic, message, stamp_ns)
    end_s = monotonic() + 20.0
    while len(read_cut_off(recorder.path)) < 200 and monotonic() < end_s:
        sleep(0.05)
    for topic, message, stamp_ns in messages[200:]:
        recorder.write(topic, message, stamp_ns)
    recorder.close()
    whole = recorder.path.read_bytes()
    cut = tmp_path / "cut.mcap"
    lengths = np.linspace(0, len(whole), 60).astype(int)
    counts = []
    for length in lengths:
        cut.write_bytes(whole[:length])
        counts.append(len(read_cut_off(cut)))
    assert counts == sorted(counts)
    assert counts[-1] == len(messages) and 200 in counts


RECORD_FOR_EVER = """
import sys, time
from pathlib import Path
from sensor_msgs.msg import JointState
from polyreach_nodes.recording.cdr import length_of
from polyreach_nodes.recording.mcap import Recorder

recorder = Recorder(Path(sys.argv[1]), {"/joint_states": JointState})
while True:
    recorder.write("/joint_states", JointState(position=[1.0] * 20), time.time_ns())
    print(time.time_ns(), flush=True)
    time.sleep(0.01)
"""


def test_a_kill_loses_no_more_than_a_second(tmp_path: Path) -> None:
    path, log = tmp_path / "run.mcap", tmp_path / "written"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", RECORD_FOR_EVER, str(path)], stdout=output
        )
        try:
            end_s = monotonic() + 60.0
            while len(log.read_text().splitlines()) < 250:
                assert monotonic() < end_s and process.poll() is None
                sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    written = [int(line) for line in log.read_text().splitlines() if len(line) == 19]
    actual = read_cut_off(path)
    assert [message.sequence for message in actual] == [*range(len(actual))]
    assert written[-1] - actual[-1].log_time < 1e9
    with pytest.raises(EndOfFile), path.open("rb") as file:
        list(StreamReader(file).records)


class _HangingFile:
    """A file on a disk that does not answer until it is released."""

    def __init__(self, file: object, hangs: list[bool]) -> None:
        self._file, self._hangs = file, hangs

    def __getattr__(self, name: str) -> object:
        while self._hangs[0] and name in ("write", "flush"):
            sleep(0.005)
        return getattr(self._file, name)


def test_a_full_queue_drops_and_counts_without_blocking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyreach_nodes.recording import mcap as recording

    hangs, create = [False], recording._create
    monkeypatch.setattr(
        recording,
        "_create",
        lambda path: (create(path)[0], _HangingFile(path.open("r+b"), hangs)),
    )
    recorder = Recorder(tmp_path / "run.mcap", {"/text": String}, queue_length=10)
    recorder.write("/text", String(data="x"), 1)
    hangs[0] = True
    sleep(0.8)  # by now the writing thread hangs in a flush
    started_s = perf_counter()
    for number in range(100):
        recorder.write("/text", String(data="x" * 10), number + 2)
    assert perf_counter() - started_s < 0.5
    assert recorder.dropped == 90
    hangs[0] = False
    recorder.close()
    assert recorder.error == ""
    read = list(read_ros2_messages(recorder.path))
    assert [message.sequence_count for message in read] == [*range(11)]
    assert recorder.dropped + len(read) == 101


FILL_THE_DISK = """
import resource, sys, time
from pathlib import Path
from std_msgs.msg import String
from polyreach_nodes.recording.cdr import length_of
from polyreach_nodes.recording.mcap import Recorder

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
recorder = Recorder(Path(sys.argv[1]), {"/text": String})
rng_text = "".join(chr(33 + (i * i * 7919 + i) % 90) for i in range(4000))
end_s = time.monotonic() + 30.0
while not recorder.error and time.monotonic() < end_s:
    for number in range(10):
        shift = (time.time_ns() // 1000) % 4000
        recorder.write("/text", String(data=rng_text[shift:] + rng_text[:shift] * 3), 1)
    time.sleep(0.01)
before = recorder.error
recorder.write("/text", String(data="later"), 2)
recorder.close()
print(before)
assert recorder.error == before
"""


def test_a_full_disk_ends_only_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"'{path}' cannot be written: File too large"
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert 0 < path.stat().st_size <= 200_000


def test_writing_takes_the_caller_little_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run.mcap", TOPICS)
    messages = some_messages(250)
    costs_s = []
    for topic, message, stamp_ns in messages:
        started_s = perf_counter()
        recorder.write(topic, message, stamp_ns)
        costs_s.append(perf_counter() - started_s)
        sleep(0.001)
    recorder.close()
    median_us = 1e6 * float(np.median(costs_s))
    print(f"write: median {median_us:.1f} us, p99 {1e6 * np.quantile(costs_s, 0.99):.1f} us")
    assert median_us < 250.0
    assert len(list(read_ros2_messages(recorder.path))) == len(messages)


def test_warmed_up_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.warm_up(TOPICS.values())
    monkeypatch.setattr(recording, "_definition_file", None)
    Recorder(tmp_path / "run.mcap", TOPICS).close()
    assert (tmp_path / "run.mcap").stat().st_size > 0
