"""A Ray cluster of a head without CPUs and two nodes, on this machine, for tests.

python ray_cluster_of_two.py: starts it, prints its address, then kills, at every line it reads, the
node on which a run is trained, with its workers; ends at the end of its input.
"""

import os
import signal
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

TRAINING = b"ray::train_run"


def processes() -> dict[int, tuple[int, bytes]]:
    """Parent and title of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = parent, (path / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def kill_node_in_training(cluster: Cluster) -> None:
    """Kill the node with a worker that trains: first its workers, so that none writes anything on
    its way out, as when the machine loses its power.
    """
    now = processes()
    for node in list(cluster.worker_nodes):
        raylet = node.all_processes["raylet"][0].process.pid
        workers = [pid for pid, (parent, title) in now.items() if parent == raylet]
        if any(now[pid][1].startswith(TRAINING) for pid in workers):
            for pid in (raylet, *workers):
                os.kill(pid, signal.SIGKILL)
            cluster.remove_node(node, allow_graceful=False)
            print("killed", flush=True)
            return
    print("none is in training", flush=True)


def main() -> None:
    """See above."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        kill_node_in_training(cluster)
    cluster.shutdown()


if __name__ == "__main__":
    main()
