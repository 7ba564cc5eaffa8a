#!/usr/bin/env python3
"""A client that goes away (Ctrl-C, or killed) frees its KV blocks."""
import signal
import tempfile

from harness import Lines, Server, check_equal, endless, model

folder = tempfile.TemporaryDirectory()
server = Server("--model", endless(model("austen"), folder.name), "--no-prefix-cache")
for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
    before = server.stats()["requests"]["cancelled"]
    client = Lines(server.client("--prompt", "It was", "--ignore-eos",
                                 "--temperature", "0"))
    server.await_stats(lambda s: s["replicas"][0]["kv_blocks_used"] > 0, "KV blocks in use")
    client.process.send_signal(how)
    client.wait(code=code)
    stats = server.await_stats(lambda s: s["replicas"][0]["kv_blocks_used"] == 0, "free KV blocks")
    check_equal(stats["requests"]["cancelled"], before + 1, "cancelled requests")
    check_equal(stats["requests"]["running"], 0, "running requests")
server.stop()
