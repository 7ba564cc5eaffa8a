#!/usr/bin/env python3
"""What ends a replica, done to real processes: killed, crashed and stopped ranks, a killed mpirun, a
replica that fails at each start. 16 sampled streams go on with the ids they would have had."""
import json
import os
import pathlib
import shutil
import signal
import tempfile
import time

from harness import Lines, Server, check, check_equal, model, parent, run

N_STREAMS = 16
folder = tempfile.mkdtemp()
directory = pathlib.Path(folder) / "austen"  # that can go away
shutil.copytree(model("austen"), directory)
server = Server("--model", str(directory), "--tp", "2", "--pp", "2", "--step-timeout", "2s")


def request(i):
    return ["--prompt", f"Chapter {i}.", "--max-tokens", "160", "--ignore-eos", "--seed", str(i),
            "--temperature", "0.9"]


def start(i):
    return Lines(server.client(*request(i), "--json"))


def pid_of(rank):
    return next(pid for (_, r), pid in server.ranks().items() if r == rank)


undisturbed = [json.loads(client.wait()[0]) for client in [start(i) for i in range(N_STREAMS)]]


def disturb(what, do, *said):
    """While 16 streams run, `do`; the log says why the replica ended, and every stream goes on."""
    before = server.stats()["requests"]
    log_size = len(server.log)
    clients = [start(i) for i in range(N_STREAMS)]
    server.await_stats(
        lambda s: s["requests"]["accepted"] == before["accepted"] + N_STREAMS
        and s["requests"]["completion_tokens"] > before["completion_tokens"] + N_STREAMS,
        "16 streams under way")
    do()
    done = time.monotonic()
    line = server.wait_for_log("starting it again", after=log_size)
    print(f"{what}: {line}")
    check(any(words in line for words in said), f"expected one of {said}")
    server.await_stats(lambda s: s["requests"]["replicas_lost"] > before["replicas_lost"]
                       and s["replicas"], "the replica's return")
    print(f"{what}: the replica was back after {time.monotonic() - done:.2f} s")
    for i, client in enumerate(clients):
        answer = json.loads(client.wait()[0])
        check_equal(answer["token_ids"], undisturbed[i]["token_ids"], f"ids of stream {i}")
        check_equal(answer["text"], undisturbed[i]["text"], f"text of stream {i}")
    after = server.stats()["requests"]
    check(after["replicas_lost"] == before["replicas_lost"] + 1, f"replicas lost: {after}")
    check(after["replayed"] > before["replayed"], f"no stream was disturbed: {after}")


for rank in range(4):
    disturb(f"SIGKILL to rank {rank}", lambda: os.kill(pid_of(rank), signal.SIGKILL),
            f"rank {rank} on ")
disturb("SIGSEGV to rank 3", lambda: os.kill(pid_of(3), signal.SIGSEGV), "SIGSEGV (plan ", "SIGSEGV (after plan ")
disturb("SIGKILL to mpirun", lambda: os.kill(parent(pid_of(0)), signal.SIGKILL), "was killed by")
for rank in range(4):
    # Or the one of the next stage, which waits for it, is missed first.
    disturb(f"SIGSTOP to rank {rank}", lambda: os.kill(pid_of(rank), signal.SIGSTOP),
            f"rank {rank} did not come (waited 1500 ms)", "nothing heard for 2 s",
            f"rank {rank + 2} did not come (waited 1500 ms)")

# A hang while nothing is asked for is found, too.
lost = server.stats()["requests"]["replicas_lost"]
os.kill(pid_of(1), signal.SIGSTOP)
stopped = time.monotonic()
server.await_stats(lambda s: s["requests"]["replicas_lost"] > lost, "a hang while idle")
print(f"SIGSTOP to rank 1 while idle: found after {time.monotonic() - stopped:.2f} s")
server.await_stats(lambda s: s["replicas"], "the replica's return")

# The model cannot be read any more: requests wait for the replica until it has failed too often.
hidden = directory.rename(directory.with_suffix(".hidden"))
client = Lines(server.client(*request(0), "--json"))
os.kill(pid_of(2), signal.SIGKILL)
answer = run(server.client(*request(1), "--json"), code=None)
check(answer.returncode != 0, "a request was served without a replica")
check("UNAVAILABLE" in answer.stderr and "fails again and again" in answer.stderr
      and "config.json" in answer.stderr, answer.stderr)
print(f"a replica that fails at each start: {answer.stderr.strip()}")
client.wait(code=None)  # refused, or served before the kill
hidden.rename(directory)
server.await_stats(lambda s: s["replicas"], "the replica's return once its model is there again")
check_equal(server.generate(*request(2))["token_ids"], undisturbed[2]["token_ids"], "ids afterwards")
server.stop()

# As JSON the line of a loss has all that is known of it.
server = Server("--model", str(directory), "--tp", "2", "--log-format", "json")
clients = [start(i) for i in range(N_STREAMS)]
server.await_stats(lambda s: s["requests"]["accepted"] == N_STREAMS, "16 streams under way")
os.kill(pid_of(1), signal.SIGKILL)
lost = json.loads(server.wait_for_log("starting it again"))
print(lost)
check_equal((lost["replica"], lost["rank"]), (0, 1), "replica, rank")
check(all(name.startswith("gen-") for name in lost["requests"]) and lost["requests"], lost)
check("signal 9" in lost["cause"] and lost["plans_committed"] > 0 and lost["link"] == 1, lost)
for client, alone in zip(clients, undisturbed):
    check_equal(json.loads(client.wait()[0])["token_ids"], alone["token_ids"], "ids after it")
server.stop()
shutil.rmtree(folder)
