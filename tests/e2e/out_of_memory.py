#!/usr/bin/env python3
"""Memory runs out: an allocation of a rank fails, or the kernel kills the rank for it. The line that
says so names rank and host; the replica is replaced, and streams go on with the ids they would have
had."""
import json
import os
import pathlib
import resource
import socket
import tempfile

from harness import BINARY, Lines, Server, check, check_equal, endless, model, run

N_STREAMS = 8
HOST = socket.gethostname()
directory = model("austen")
requests = [["--prompt", f"Chapter {i}. " * 30, "--max-tokens", "100", "--ignore-eos", "--seed", str(i),
             "--temperature", "0.9", "--json"] for i in range(N_STREAMS)]


def ids(lines):
    return json.loads(lines[0])["token_ids"]


undisturbed = [ids(run([BINARY, "generate", "--model", directory, *request]).stdout.splitlines())
               for request in requests]


class MemoryGroup:
    """A cgroup that has next to no memory for what a process still needs; None where there is none."""

    def __init__(self, folder, limit, kills):
        self.folder, self.limit, self.kills = folder, limit, kills

    @staticmethod
    def make():
        root = pathlib.Path("/sys/fs/cgroup")
        for parent, limit, kills in [(root, "memory.max", "memory.events"),
                                     (root / "memory", "memory.limit_in_bytes", "memory.oom_control")]:
            folder = parent / f"trireme{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            group = MemoryGroup(folder, limit, kills)
            if (folder / limit).exists():
                return group
            group.remove()
        return None

    def take(self, pid):
        (self.folder / self.limit).write_text(str(64 << 10))
        (self.folder / "cgroup.procs").write_text(str(pid))

    def n_killed(self):
        counts = dict(line.split() for line in (self.folder / self.kills).read_text().splitlines())
        return int(counts["oom_kill"])

    def remove(self):
        self.folder.rmdir()


def disturb(what, do, env=None):
    """Returns the object of the log that says why a replica that has computed nothing yet ended, once
    the streams that came have."""
    server = Server("--model", directory, "--tp", "2", "--log-format", "json", env=env)
    do(next(pid for (_, rank), pid in server.ranks().items() if rank == 1))
    clients = [Lines(server.client(*request)) for request in requests]
    line = server.wait_for_log("starting it again")
    print(f"{what}: {line}")
    check_equal([ids(client.wait()) for client in clients], undisturbed, "ids")
    server.stop()
    return json.loads(line)


def no_more(pid):
    resource.prlimit(pid, resource.RLIMIT_AS, (0, 0))


# The C library has taken nothing in advance: a KiB or more is the kernel's to give, whichever thread asks.
line = disturb("an allocation fails", no_more, env={
    "MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "0", "MALLOC_MMAP_THRESHOLD_": "1024"})
check_equal((line["replica"], line["rank"], line["host"]), (0, 1, HOST), "replica, rank and host")
check(line["cause"].startswith("out of memory"), line)

if (group := MemoryGroup.make()) is None:
    print("no cgroup can be made here: the kernel's killer is left out")
else:
    try:
        line = disturb("the kernel kills the rank", group.take)
        check_equal((line["replica"], line["rank"], line["host"]), (0, 1, HOST), "replica, rank and host")
        check("signal 9" in line["cause"] and "memory" in line["cause"], line)
        check_equal(group.n_killed(), 1, "processes killed for want of memory")
    finally:
        group.remove()

# There was never enough: serve ends with that.
with tempfile.TemporaryDirectory() as folder:
    done = run(["prlimit", f"--as={16 << 30}", BINARY, "serve", "--grpc-addr", "127.0.0.1:0", "--model",
                endless(directory, folder), "--kv-cache-bytes", str(1 << 40)], code=1)
    print(done.stderr)
    check(f"rank 0 on {HOST}: out of memory" in done.stderr.splitlines()[-1], done.stderr)
