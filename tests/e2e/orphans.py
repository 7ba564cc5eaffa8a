#!/usr/bin/env python3
"""Whatever of a server is killed with SIGKILL, no process outlives it; mpirun's death is no end."""
import os
import signal
import time

from harness import Server, await_end, check, check_no_leftovers, descendants, model, parent

arguments = ["--model", model("austen"), "--tp", "2"]



def await_ends(pids):
    deadline = time.monotonic() + 5
    for pid in pids:
        await_end(pid, patience_s=max(0, deadline - time.monotonic()))


server = Server(*arguments)
everything = descendants(server.pid)
check(len(everything) >= 3, f"expected mpirun and two ranks: {everything}")
server.process.kill()
server.wait(code=-signal.SIGKILL)
await_ends(everything)
check_no_leftovers()

server = Server(*arguments)
ranks = server.ranks()
mpirun = {replica for replica, _ in ranks}.pop()
check(parent(mpirun) == server.pid, "mpirun is the server's own child")
log_size = len(server.log)
os.kill(mpirun, signal.SIGKILL)
await_ends(ranks.values())
print(server.wait_for_log("mpirun was killed by signal 9", after=log_size))
server.await_stats(lambda s: s["replicas"], "the replica's return")
check(not set(server.ranks().values()) & set(ranks.values()), "old ranks run on")
server.stop()
