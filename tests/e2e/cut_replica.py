#!/usr/bin/env python3
"""Packets between a controller and one of its replicas are dropped while streams run: another
replica goes on with them. The replica drops what it had, links again when packets come, and serves."""
import json
import signal

from harness import BINARY, Lines, check, check_equal, check_no_leftovers, model, run
from network import Network

N_STREAMS = 16
directory = model("austen")


def request(i):
    return ["--prompt", f"Chapter {i}.", "--max-tokens", "160", "--ignore-eos", "--seed", str(i),
            "--temperature", "0.9", "--json"]


with Network("a", "b") as network:
    controller = Lines(network.on("a", [
        BINARY, "controller", "--grpc-addr", f"{network.address('a')}:0", "--insecure",
        "--replica-timeout", "1s"]))
    address = controller.next_line().removeprefix("listening ")

    def worker(host):
        return Lines(network.on(host, [BINARY, "worker", "--controller", address,
                                       "--controller-timeout", "60s", "--model", directory]))

    def start(i):
        return Lines(network.on("a", [BINARY, "generate", "--server", address, *request(i)]))

    def ids(client):
        return json.loads(client.wait()[0])["token_ids"]

    def stats():
        return json.loads(run(network.on("a", [BINARY, "ctl", "stats", "--server", address])).stdout)

    def await_stats(wanted):
        while not wanted(found := stats()):
            pass
        return found

    far = worker("b")
    controller.next_line()  # ready
    undisturbed = [ids(client) for client in [start(i) for i in range(N_STREAMS)]]
    near = worker("a")
    await_stats(lambda s: len(s["replicas"]) == 2)

    before = stats()["requests"]
    clients = [start(i) for i in range(N_STREAMS)]
    await_stats(lambda s: s["requests"]["accepted"] == before["accepted"] + N_STREAMS
                and s["requests"]["completion_tokens"] > before["completion_tokens"] + N_STREAMS)
    network.cut("b")
    print(controller.wait_for_log("lost: nothing heard for 1 s"))
    print(far.wait_for_log("is lost (nothing heard from it)"))
    check_equal([ids(client) for client in clients], undisturbed, "ids of streams whose replica was cut")
    after = stats()["requests"]
    check(after["replayed"] > before["replayed"], f"no stream was disturbed: {after}")
    check_equal([r["hosts"] for r in stats()["replicas"]], [["nodea"]], "hosts of the replicas left")

    network.heal("b")
    healed = await_stats(lambda s: len(s["replicas"]) == 2)
    back = next(r for r in healed["replicas"] if r["hosts"] == ["nodeb"])
    check_equal((back["running"], back["kv_blocks_used"]), (0, 0), "what the replica kept")
    near.process.send_signal(signal.SIGKILL)
    near.wait(code=None)
    await_stats(lambda s: len(s["replicas"]) == 1)
    check_equal(ids(start(0)), undisturbed[0], "ids of the replica that was cut")

    for process in [controller, far]:
        process.process.send_signal(signal.SIGTERM)
        process.wait(code=None)
    check_no_leftovers()
