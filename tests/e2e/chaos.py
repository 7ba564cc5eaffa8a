#!/usr/bin/env python3
"""Chaos: two replicas of tp 2, 32 closed-loop clients (half over HTTP, half over gRPC) with sampled
requests, choices, stop strings and logprobs; every few seconds something fails: a rank is killed, crashes or
hangs, mpirun is killed, a replica is drained, the controller with all its replicas is killed and
started again. Whatever happens, every request ends with exactly what it would have been undisturbed.

usage: chaos.py [SECONDS]       TRIREME_CHAOS_SEED chooses the failures
"""
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from harness import BINARY, ENV, PATIENCE_S, Server, check, check_equal, model, parent, run

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60
PERIOD_S = 10  # between failures
N_CLIENTS = 32
N_REQUESTS = 24  # different ones
SEED = int(os.environ.get("TRIREME_CHAOS_SEED", random.randrange(2**32)))
print(f"TRIREME_CHAOS_SEED={SEED}", flush=True)
chance = random.Random(SEED)
folder = pathlib.Path(tempfile.mkdtemp())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


ADDRESSES = ["--grpc-addr", f"127.0.0.1:{free_port()}", "--http-addr", f"127.0.0.1:{free_port()}"]


def start_server():
    return Server(
        "--model", model("austen"), "--tp", "2", "--replicas", "2", "--step-timeout", "2s",
        "--ledger-dir", str(folder / "ledger"), "--http-addr", ADDRESSES[3], grpc_addr=ADDRESSES[1])


class Request:
    """One of the requests: its body over HTTP, its flags over gRPC."""

    def __init__(self, i):
        self.body = {"model": "austen", "prompt": f"Chapter {i}.", "max_tokens": 60 + 10 * (i % 9),
                     "ignore_eos": True, "seed": i, "temperature": 0.9, "n": 1 + (i % 4 == 0),
                     "stream": True}
        self.flags = ["--prompt", f"Chapter {i}.", "--max-tokens", str(60 + 10 * (i % 9)),
                      "--ignore-eos", "--seed", str(i), "--temperature", "0.9", "--json",
                      "--n", str(1 + (i % 4 == 0))]
        if i % 3 == 0:
            self.body["stop"] = [" the"]
            self.flags += ["--stop", " the"]
        if i % 5 == 1:
            self.body["logprobs"] = 1
            self.flags += ["--logprobs", "1"]


def rounded(logprobs):
    return tuple(round(logprob, 5) for logprob in logprobs)


class Disturbed(Exception):
    """The stream broke: the client comes back."""


def stream_once(body, heard):
    """Text and logprobs by choice; `heard` is called with each piece of news."""
    host, port = ADDRESSES[3].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        answer = connection.getresponse()
        if answer.status == 503:
            raise Disturbed(answer.read())
        check_equal(answer.status, 200, f"the status of {body}: {answer.read() if answer.status != 200 else ''}")
        choices = collections.defaultdict(lambda: ("", ()))
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            data = line[len(b"data: "):].strip()
            if data == b"[DONE]":
                return [choices[i] for i in sorted(choices)]
            event = json.loads(data)
            if "error" in event:
                raise Disturbed(event["error"])
            for choice in event["choices"]:
                text, logprobs = choices[choice["index"]]
                more = (choice.get("logprobs") or {"token_logprobs": []})["token_logprobs"]
                choices[choice["index"]] = (text + choice["text"], logprobs + rounded(more))
            heard()
        raise Disturbed("the stream ended early")
    except (OSError, http.client.HTTPException) as error:
        raise Disturbed(str(error)) from error
    finally:
        connection.close()


class Client(threading.Thread):
    """One request after another; each is to be as it was undisturbed."""

    def __init__(self, index):
        super().__init__(daemon=True)
        self.index = index
        self.choose = random.Random(SEED + index)
        self.n_done = self.n_back = self.n_lost = self.n_differing = 0
        self.longest_pause = 0
        self.wrong = []

    def run(self):
        while time.monotonic() < end:
            i = self.choose.randrange(N_REQUESTS)
            name = f"c{self.index}-{self.n_done}"
            ask = self.ask_http if self.index % 2 else self.ask_grpc
            answer = ask(i, name)
            self.n_done += 1
            if answer is None:
                self.n_lost += 1
            elif answer != undisturbed[i]:
                self.n_differing += 1
                self.wrong.append(f"{name}: request {i}: {answer} instead of {undisturbed[i]}")

    def ask_http(self, i, name):
        body = requests[i].body | {"request_id": name}
        last = time.monotonic()

        def heard():
            nonlocal last
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - last)
            last = now

        give_up = last + PATIENCE_S
        while time.monotonic() < give_up:
            try:
                return stream_once(body, heard)
            except Disturbed:
                self.n_back += 1
                disturbed.wait(0.2)
        self.wrong.append(f"{name}: request {i} did not end in {PATIENCE_S} s")
        return None

    def ask_grpc(self, i, name):
        give_up = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                [BINARY, "generate", "--server", ADDRESSES[1], *requests[i].flags, "--request-id", name,
                 "--reconnect", f"{PATIENCE_S}s"], env=ENV, text=True, capture_output=True)
            if done.returncode == 0:
                answer = json.loads(done.stdout)
                return [(c["text"], rounded(l["logprob"] for l in c.get("logprobs", [])))
                        for c in answer.get("choices", [answer])]
            # Nobody was there when it dialled: it asks again.
            if "UNAVAILABLE" in done.stderr and time.monotonic() < give_up:
                self.n_back += 1
                disturbed.wait(0.2)
                continue
            self.wrong.append(f"{name}: request {i}: {done.stderr}")
            return None


requests = [Request(i) for i in range(N_REQUESTS)]
server = start_server()
server.await_stats(lambda s: len(s["replicas"]) == 2, "two replicas")
disturbed = threading.Event()  # never set: a pause that ends early if it is
undisturbed = [stream_once(request.body, lambda: None) for request in requests]


def ranks():
    return [pid for _, pid in sorted(server.ranks().items())]


def one_rank(sign):
    return lambda: os.kill(chance.choice(ranks()), sign)


def kill_mpirun():
    os.kill(parent(chance.choice(ranks())), signal.SIGKILL)


def kill_everything():
    global server
    server.process.kill()
    server.wait(code=None)
    server = start_server()


def drain():
    link = chance.choice(server.stats()["replicas"])["link"]
    run([BINARY, "ctl", "drain", "--server", server.address, "--link", str(link)], code=None)


FAILURES = {
    "SIGKILL to a rank": one_rank(signal.SIGKILL),
    "SIGSEGV to a rank": one_rank(signal.SIGSEGV),
    "SIGSTOP to a rank": one_rank(signal.SIGSTOP),
    "SIGKILL to mpirun": kill_mpirun,
    "SIGKILL to the controller": kill_everything,
    "a drained replica": drain,
}

end = time.monotonic() + SECONDS
clients = [Client(i) for i in range(N_CLIENTS)]
for client in clients:
    client.start()
done = collections.Counter()
order = []
while (left := end - time.monotonic()) > 0:
    server.await_stats(lambda s: len(s["replicas"]) == 2 and s["requests"]["running"] > 0
                       and s["requests"]["completion_tokens"] > 0, "two replicas at work")
    disturbed.wait(min(left, PERIOD_S * chance.uniform(0.5, 1)))
    if not order:  # each kind in turn, in a new order each time
        order = chance.sample(sorted(FAILURES), len(FAILURES))
    what = order.pop()
    FAILURES[what]()
    done[what] += 1
    print(f"{what}; {sum(c.n_done for c in clients)} requests so far", flush=True)
for client in clients:
    client.join(2 * PATIENCE_S)
    check(not client.is_alive(), f"client {client.index} hangs")

total = lambda name: sum(getattr(c, name) for c in clients)
print("failures: " + ", ".join(f"{n} x {what}" for what, n in sorted(done.items())))
print(f"{total('n_done')} requests of {N_CLIENTS} clients, {total('n_back')} times one came back, "
      f"longest pause {max(c.longest_pause for c in clients):.2f} s; lost {total('n_lost')}, "
      f"differing {total('n_differing')}")
for client in clients:
    print("\n".join(client.wrong[:3]), end="\n" if client.wrong else "")
check(total("n_done") >= N_CLIENTS, "hardly anything was asked for")
check_equal((total("n_lost"), total("n_differing")), (0, 0), "lost, differing")
server.stop()
shutil.rmtree(folder)
