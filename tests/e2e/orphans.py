#!/usr/bin/env python3
"""Whatever of a server is killed with SIGKILL, no process outlives it; mpirun's death is no end."""
import os
import signal

from harness import Server, await_end, check, check_no_leftovers, descendants, model, parent

arguments = ["--model", model("austen"), "--tp", "2"]

server = Server(*arguments)
everything = descendants(server.pid)
check(len(everything) >= 3, f"expected mpirun and two ranks: {everything}")
server.process.kill()
server.wait(code=-signal.SIGKILL)
for pid in everything:
    await_end(pid)
check_no_leftovers()

server = Server(*arguments)
ranks = server.ranks()
mpirun = {replica for replica, _ in ranks}.pop()
check(parent(mpirun) == server.pid, "mpirun is the server's own child")
log_size = len(server.log)
os.kill(mpirun, signal.SIGKILL)
for pid in ranks.values():
    await_end(pid)
print(server.wait_for_log("mpirun was killed by signal 9", after=log_size))
server.await_stats(lambda s: s["replicas"], "the replica's return")
check(not set(server.ranks().values()) & set(ranks.values()), "old ranks run on")
server.stop()
