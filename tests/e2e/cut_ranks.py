#!/usr/bin/env python3
"""Packets between two ranks of one replica are dropped while streams run: it is noticed within
--step-timeout and named, and the streams go on when packets come again."""
import json
import tempfile
import time

from harness import Lines, Server, check, check_equal, model
from network import Network

N_STREAMS = 8
directory = model("austen")


def request(i):
    return ["--prompt", f"Chapter {i}.", "--max-tokens", "120", "--ignore-eos", "--seed", str(i),
            "--temperature", "0.9", "--json"]


def cut_off(network, folder, layout, *said):
    """A replica of two ranks loses the way to one of them; what it says then has all of `said`."""
    server = Server("--insecure", "--model", directory, *layout, "--step-timeout", "2s",
                    "--launch-args", network.launch_args(folder, "a", "b"),
                    grpc_addr=f"{network.address('a')}:0",
                    around=lambda command: network.on("a", command))

    def start(i):
        return Lines(network.on("a", server.client(*request(i))))

    def ids(client):
        return json.loads(client.wait()[0])["token_ids"]

    undisturbed = [ids(client) for client in [start(i) for i in range(N_STREAMS)]]
    before = server.stats()["requests"]
    clients = [start(i) for i in range(N_STREAMS)]
    server.await_stats(lambda s: s["requests"]["completion_tokens"] >
                       before["completion_tokens"] + N_STREAMS, "streams under way")
    network.cut("b")
    cut = time.monotonic()
    server.await_stats(lambda s: not s["replicas"], "the loss")
    print(f"{layout}: the replica was lost after {time.monotonic() - cut:.2f} s")
    line = server.wait_for_log("starting it again")
    print(f"{line} ({time.monotonic() - cut:.2f} s after the cut)")
    for words in said:
        check(words in line, f"expected {words!r}")
    network.heal("b")
    check_equal([ids(client) for client in clients], undisturbed, "ids of streams whose ranks were cut")
    check(server.stats()["requests"]["replayed"] > before["replayed"], "no stream was disturbed")
    server.stop()


with Network("a", "b") as network, tempfile.TemporaryDirectory() as folder:
    cut_off(network, folder, ["--tp", "2"], "rank 0 on nodea: ", "nothing from rank 1 (waited 1500 ms)")
    cut_off(network, folder, ["--pp", "2"], "rank 0 on nodea: ",
            "no result from the other stages (rank 1 on nodeb) for ")
