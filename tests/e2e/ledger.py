#!/usr/bin/env python3
"""A controller with a ledger on disk: killed and started again, its clients' streams go on; a client
that went gets what came meanwhile; a full disk refuses admission and loses nothing."""
import json
import os
import pathlib
import resource
import shutil
import signal
import tempfile

from harness import (BINARY, Controller, Lines, check, check_equal, check_no_leftovers, command_line,
                     descendants, model, mpirun, run)

N_STREAMS = 16
folder = pathlib.Path(tempfile.mkdtemp())
ledger = folder / "ledger"
austen = model("austen")


def start_controller(address="127.0.0.1:0"):
    return Controller("--ledger-dir", str(ledger), grpc_addr=address)


def request(i):
    n = ["--n", "2"] if i % 5 == 0 else []
    return ["--prompt", f"Chapter {i}.", "--max-tokens", "160", "--ignore-eos", "--seed", str(i),
            "--temperature", "0.9", "--json", *n]


def client(controller, i, *flags):
    return Lines([BINARY, "generate", "--server", controller.address, *request(i), *flags])


def check_same(answer, i, what):
    choices = lambda a: [(c["token_ids"], c["text"]) for c in a.get("choices", [a])]
    check_equal(choices(answer), choices(undisturbed[i]), f"{what}: stream {i}")


controller = start_controller()
worker = Lines(mpirun(2, "worker", "--controller", controller.address, "--model", austen, "--tp", "2"))
check(controller.next_line().startswith("ready "), "the controller is not ready")
undisturbed = [json.loads(c.wait()[0]) for c in [client(controller, i) for i in range(N_STREAMS)]]

# kill -9, twice: what runs is known to the next controller, whether or not it was to go on alone.
for round in range(2):
    before = controller.stats()["requests"]
    clients = [client(controller, i, "--reconnect", "60s", *(["--detach", "60s"] if i % 2 else []))
               for i in range(N_STREAMS)]
    controller.await_stats(
        lambda s: s["requests"]["accepted"] == before["accepted"] + N_STREAMS
        and s["requests"]["completion_tokens"] > before["completion_tokens"] + N_STREAMS,
        "16 streams under way")
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait(code=None)
    controller = start_controller(controller.address)
    controller.wait_for_log("requests of an earlier controller")
    for i, c in enumerate(clients):
        check_same(json.loads(c.wait()[0]), i, f"round {round}")
    print(f"round {round}: {controller.stats()['requests']}")

def while_it_stands_still(do):
    """`do`, while no rank of the replica gets on."""
    ranks = [p for p in descendants(worker.pid) if "worker" in command_line(p)]
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    result = do()
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
    return result


def start(i, *flags):
    accepted = controller.stats()["requests"]["accepted"]
    started = client(controller, i, *flags)
    controller.await_stats(lambda s: s["requests"]["accepted"] > accepted, "the request under way")
    return started


# A client goes; the request does not.
def come_and_go():
    gone = start(3, "--request-id", "mine", "--detach", "60s")
    gone.process.kill()
    gone.wait(code=None)


while_it_stands_still(come_and_go)
finished = controller.await_stats(lambda s: s["requests"]["running"] == 0, "its end")["requests"]
check_equal(finished["cancelled"], 0, "cancelled requests")
tokens = finished["completion_tokens"]
again = client(controller, 3, "--request-id", "mine", "--detach", "60s")
check_same(json.loads(again.wait()[0]), 3, "a client that came back")
check_equal(controller.stats()["requests"]["completion_tokens"], tokens, "tokens computed again")

# Nothing can be written, not even anew: what runs goes on, nothing new is accepted, until they may again.
def limit_files():
    running = start(4)
    before = resource.prlimit(controller.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(controller.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    return running, before


running, before = while_it_stands_still(limit_files)
controller.wait_for_log("no request is accepted until there is room")
refused = run([BINARY, "generate", "--server", controller.address, *request(5)], code=1)
check("RESOURCE_EXHAUSTED" in refused.stderr and "ledger is full" in refused.stderr, refused.stderr)
print(refused.stderr.strip())
check_same(json.loads(running.wait()[0]), 4, "a request on a full disk")
resource.prlimit(controller.pid, resource.RLIMIT_FSIZE, before)
check_same(json.loads(client(controller, 5).wait()[0]), 5, "a request once there is room again")

# The directory is the controller's alone.
second = run([BINARY, "controller", "--grpc-addr", "127.0.0.1:0", "--ledger-dir", str(ledger)], code=1)
check("used by another controller" in second.stderr, second.stderr)

controller.process.send_signal(signal.SIGTERM)
controller.wait()
worker.process.send_signal(signal.SIGTERM)
worker.wait(code=None)
check_no_leftovers()
shutil.rmtree(folder)
