#!/usr/bin/env python3
"""CPU that an idle server takes: prints it, and fails where something polls in a loop."""
import os
import time

from harness import Server, check, descendants, model, read_proc

SECONDS = 3.0  # a measurement: nothing is awaited


def cpu_s(pid):
    """Seconds on a CPU, of all threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(read_proc(pid, f"task/{thread}/schedstat").split()[0])
    return total / 1e9


server = Server("--model", model("austen"), "--tp", "2")
server.generate("--prompt", "It was", "--max-tokens", "4")
pids = [server.pid, *descendants(server.pid)]
before, start = {pid: cpu_s(pid) for pid in pids}, time.monotonic()
time.sleep(SECONDS)
elapsed = time.monotonic() - start
ranks = {pid: rank for (_, rank), pid in server.ranks().items()}
for pid in pids:
    share = (cpu_s(pid) - before[pid]) / elapsed
    who = f"rank {ranks[pid]}" if pid in ranks else "controller" if pid == server.pid else "mpirun"
    print(f"idle {who}: {100 * share:.3f}% of a core")
    check(share < 0.2, f"{who} is busy while nothing runs")
server.stop()
