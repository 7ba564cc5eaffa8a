#!/usr/bin/env python3
"""CPU time of a server that has nothing to do: prints it, and fails where something polls too often."""
import os
import statistics
import sys
import time

from harness import SOURCE, Server, check, descendants, model, read_proc, run

# Under 1% is what a replica promises; on a machine that others use a wake-up costs more.
LARGEST_SHARE = 0.02
WINDOWS, SECONDS = 7, 0.5  # a measurement: nothing is awaited
OWN_HOST = str(SOURCE / "tests" / "comm" / "on_own_host.sh")


def cpu_s(pid):
    """Seconds on a CPU, of all threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(read_proc(pid, f"task/{thread}/schedstat").split()[0])
    return total / 1e9


def measure(what, *args):
    server = Server("--model", model("austen"), *args)
    server.generate("--prompt", "It was", "--max-tokens", "4")
    ranks = {pid: rank for (_, rank), pid in server.ranks().items()}
    pids = [server.pid, *descendants(server.pid)]
    shares = {pid: [] for pid in pids}
    for _ in range(WINDOWS):
        before, start = {pid: cpu_s(pid) for pid in pids}, time.monotonic()
        time.sleep(SECONDS)
        for pid in pids:
            shares[pid].append((cpu_s(pid) - before[pid]) / (time.monotonic() - start))
    for pid in pids:
        who = f"rank {ranks[pid]}" if pid in ranks else "controller" if pid == server.pid else "mpirun"
        share = statistics.median(shares[pid])
        print(f"idle, {what}: {who}: {100 * share:.3f}% of a core")
        check(share < LARGEST_SHARE, f"{who} is busy while nothing runs: {shares[pid]}")
    server.stop()


measure("one host", "--tp", "2")
if run([OWN_HOST, "true"], code=None).returncode == 77:
    print("two hosts: no UTS namespace can be made here")
    sys.exit(0)
measure("two hosts", "--tp", "2", "--pp", "2", "--launch-args", f"{OWN_HOST} --rank")
