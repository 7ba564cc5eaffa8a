#!/usr/bin/env python3
"""Two controllers over the same replicas: both serve; one that is killed or replaced takes nothing of the
other's along, and gets its own back; replicas that die or are drained do so for both."""
import json
import os
import pathlib
import shutil
import signal
import tempfile

from harness import (BINARY, Controller, Lines, check, check_equal, check_no_leftovers, command_line,
                     descendants, model, mpirun, run)

N_STREAMS = 8  # of each controller
folder = pathlib.Path(tempfile.mkdtemp())


def start_controller(name, address="127.0.0.1:0"):
    controller = Controller("--ledger-dir", str(folder / name), "--drain-timeout", "0", grpc_addr=address)
    controller.name = name
    return controller


def replicas_of(controller, n):
    """What is said of them, once there are so many."""
    return controller.await_stats(lambda s: len(s.get("replicas", [])) == n, f"{n} replicas")["replicas"]


def client(controller, i):
    n = ["--n", "2"] if i % 5 == 0 else []
    return Lines([BINARY, "generate", "--server", controller.address, "--prompt", f"Chapter {i}.",
                  "--max-tokens", "160", "--ignore-eos", "--seed", str(i), "--temperature", "0.9", "--json",
                  "--reconnect", "60s", *n])


def start_all():
    """Streams of both, under way."""
    before = {c.name: c.stats()["requests"] for c in controllers}
    clients = {c.name: [client(c, i) for i in range(N_STREAMS)] for c in controllers}
    for c in controllers:
        c.await_stats(lambda s: s["requests"]["accepted"] == before[c.name]["accepted"] + N_STREAMS
                      and s["requests"]["completion_tokens"] > before[c.name]["completion_tokens"] + N_STREAMS,
                      "its streams were under way")
    return clients


def check_all(clients, what):
    ids = lambda a: [(c["token_ids"], c["text"]) for c in a.get("choices", [a])]
    for name, streams in clients.items():
        for i, stream in enumerate(streams):
            check_equal(ids(json.loads(stream.wait()[0])), ids(undisturbed[i]), f"{what}: {name}'s stream {i}")
    print(f"{what}: " + ", ".join(f"{c.name} {c.stats()['requests']}" for c in controllers))


controllers = [start_controller("a"), start_controller("b")]
addresses = ",".join(c.address for c in controllers)


def worker(tp):
    return Lines(mpirun(tp, "worker", "--controller", addresses, "--model", model("austen"), "--tp", str(tp)))


workers = [worker(2), worker(1)]
for c in controllers:
    replicas_of(c, 2)
undisturbed = [json.loads(client(controllers[0], i).wait()[0]) for i in range(N_STREAMS)]

check_all(start_all(), "both at once")

# One of the controllers goes, without a word or told to, and another one takes its place.
for how in (signal.SIGKILL, signal.SIGTERM):
    clients = start_all()
    gone = controllers[0]
    os.kill(gone.pid, how)
    gone.wait(code=None)
    controllers[0] = start_controller(gone.name, gone.address)
    controllers[0].wait_for_log("requests of an earlier controller")
    check_all(clients, f"a controller gone by {how.name}")
check_equal(controllers[1].stats()["requests"]["replayed"], 0, "requests that the other one replayed")
check_equal([len(replicas_of(c, 2)) for c in controllers], [2, 2], "replicas linked again")

# A rank dies: both give what they had there to the other replica.
clients = start_all()
ranks = [p for p in descendants(workers[0].pid) if "worker" in command_line(p)]
os.kill(ranks[-1], signal.SIGKILL)
workers[0].wait(code=None)
check_all(clients, "a rank killed")
check(all(c.stats()["requests"]["replicas_lost"] > 0 for c in controllers), "both have lost it")
workers[0] = worker(2)
for c in controllers:
    replicas_of(c, 2)

# Drained by one, a replica leaves both, and nothing of either is done again.
clients = start_all()
replayed = [c.stats()["requests"]["replayed"] for c in controllers]
link = next(r["link"] for r in replicas_of(controllers[0], 2) if r["tp"] == 2)
run([BINARY, "ctl", "drain", "--link", str(link), "--server", controllers[0].address])
workers[0].wait(code=0)
check_all(clients, "a replica drained")
check_equal([c.stats()["requests"]["replayed"] for c in controllers], replayed, "requests replayed by a drain")
check_equal([len(replicas_of(c, 1)) for c in controllers], [1, 1], "replicas that are left")

for process in [*controllers, workers[1]]:
    process.process.send_signal(signal.SIGTERM)
    process.wait(code=None)
check_no_leftovers()
shutil.rmtree(folder)
