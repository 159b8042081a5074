"""A cluster of two nodes of Ray on this machine, in a process of its own: ``python ray_cluster.py``.

It prints its address. A line ``lose`` on standard input kills the second node; the end of standard input ends the
cluster.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster


def main() -> None:
    options = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    second = cluster.add_node(**{name: value for name, value in options.items() if name != "include_dashboard"})
    cluster.wait_for_nodes()
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line == "lose\n":
            cluster.remove_node(second, allow_graceful=False)
            sys.stdout.write("lost\n")
            sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main()
