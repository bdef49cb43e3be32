"""The benchmark of engines."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.engines import Timing, cpu_times


def test_runs_per_hour_by_hand() -> None:
    timing = Timing(wall_s=120.0, first_s=20.0, run_cpu_s=40.0, other_cpu_s=5.0, runs=4)
    assert timing.per_hour == pytest.approx(4 * 36)


def test_cpu_times_of_a_tree_of_processes() -> None:
    busy = "import os\nwhile sum(os.times()[:2]) < 0.5: pass\ninput()"
    command = [sys.executable, "-I", "-S", "-c", busy, "train", "x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 100
            while cpu_times(os.getpid()).get(process.pid, (False, 0.0))[1] < 0.5:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            times = cpu_times(os.getpid())
            assert times[process.pid] == (True, pytest.approx(0.5, abs=0.3))
            assert not times[os.getpid()][0]
            assert cpu_times(process.pid) == {process.pid: times[process.pid]}
        finally:
            process.communicate(b"\n")
