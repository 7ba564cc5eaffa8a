#!/usr/bin/env python3
"""A server whose stdout and stderr go to a full disk: requests go on, lost ranks are replaced, and it
ends when it is told to."""
import os
import signal
import socket

from harness import BINARY, Lines, Server, check, check_equal, generate, model, run

directory = model("austen")
request = ["--prompt", "It was", "--max-tokens", "40", "--seed", "3"]
alone = generate("--model", directory, *request)


class MuteServer(Server):
    """`trireme serve` of which nothing is heard."""

    def __init__(self, *args):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.around = lambda command: command
        Lines.__init__(self, ["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh", BINARY, "serve",
                              "--grpc-addr", self.address, *args])


for log_format in ["text", "json"]:
    server = MuteServer("--model", directory, "--tp", "2", "--log-level", "trace", "--log-format",
                        log_format)
    while run([BINARY, "ctl", "models", "--server", server.address], code=None).stdout == "":
        check_equal(server.process.poll(), None, "the exit code of a server that starts")
    server.await_stats(lambda s: s["replicas"], "the replica")
    check_equal(server.generate(*request)["token_ids"], alone["token_ids"], "ids")
    os.kill(next(iter(server.ranks().values())), signal.SIGKILL)
    server.await_stats(lambda s: s["requests"]["replicas_lost"] == 1 and s["replicas"],
                       "the replica's return")
    check_equal(server.generate(*request)["token_ids"], alone["token_ids"], "ids afterwards")
    check(not server.log, f"the log was meant for a full disk: {server.log}")
    server.stop()
