#!/usr/bin/env python3
"""kill -9 of each rank in turn during 16 sampled streams: all go on with the ids they would have had."""
import json
import os
import signal
import time

from harness import Lines, Server, check, check_equal, model

N_STREAMS = 16
server = Server("--model", model("austen"), "--tp", "2", "--pp", "2")


def request(i):
    return ["--prompt", f"Chapter {i}.", "--max-tokens", "160", "--ignore-eos", "--seed", str(i),
            "--temperature", "0.9"]


def start(i):
    return Lines(server.client(*request(i), "--json"))


undisturbed = [json.loads(client.wait()[0]) for client in [start(i) for i in range(N_STREAMS)]]

for rank in range(4):
    before = server.stats()["requests"]
    log_size = len(server.log)
    clients = [start(i) for i in range(N_STREAMS)]
    server.await_stats(
        lambda s: s["requests"]["accepted"] == before["accepted"] + N_STREAMS
        and s["requests"]["completion_tokens"] > before["completion_tokens"] + N_STREAMS,
        "16 streams under way")
    victim = next(pid for (_, r), pid in server.ranks().items() if r == rank)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    print(server.wait_for_log(f"rank {rank} on ", after=log_size))
    server.await_stats(lambda s: s["replicas"], "the replica's return")
    print(f"rank {rank} killed; the replica was back after {time.monotonic() - killed:.2f} s")
    for i, client in enumerate(clients):
        answer = json.loads(client.wait()[0])
        check_equal(answer["token_ids"], undisturbed[i]["token_ids"], f"ids of stream {i}")
        check_equal(answer["text"], undisturbed[i]["text"], f"text of stream {i}")
    after = server.stats()["requests"]
    check(after["replicas_lost"] == before["replicas_lost"] + 1, f"no replica was lost: {after}")
    check(after["replayed"] > before["replayed"], f"no stream was disturbed: {after}")
server.stop()
