#!/usr/bin/env python3
"""A controller and a replica started by hand; the replica outlives the controller and redials."""
import json
import re
import shlex
import signal

from harness import BINARY, Lines, check_equal, check_no_leftovers, generate, model, mpirun, run

directory = model("austen")
request = ["--prompt", "It was", "--max-tokens", "12", "--seed", "5", "--json"]
alone = generate("--model", directory, *request[:-1])


def controller(address):
    process = Lines([BINARY, "controller", "--grpc-addr", address])
    line = process.next_line()
    return process, line.removeprefix("listening ")


def ask(address, *more):
    return json.loads(run([BINARY, "generate", "--server", address, *request, *more]).stdout)


first, address = controller("127.0.0.1:0")
replica = Lines(mpirun(2, "worker", "--controller", address, "--model", directory, "--tp", "2",
                       "--controller-timeout", "60"))
first.next_line()  # ready
check_equal(ask(address)["token_ids"], alone["token_ids"], "ids")

first.process.kill()
first.wait(code=-signal.SIGKILL)
second, _ = controller(address)
second.next_line()  # ready again: nobody started a rank
check_equal(ask(address)["token_ids"], alone["token_ids"], "ids from the second controller")
check_equal(replica.process.poll(), None, "the replica's exit code")

# Told to stop, the controller leaves the replica to whoever started it.
second.process.send_signal(signal.SIGTERM)
second.wait()
replica.process.send_signal(signal.SIGTERM)
replica.wait(code=None)
check_no_leftovers()

# serve --launch none prints what to start; the model is served under its directory's name.
server = Lines([BINARY, "serve", "--launch", "none", "--model", directory, "--tp", "2",
                "--replicas", "2", "--grpc-addr", "127.0.0.1:0"])
address = server.next_line().removeprefix("listening ")
commands = [re.fullmatch(r"start 2 ranks of (\S+ worker .*)", server.next_line())[1] for _ in "ab"]
replicas = [Lines(mpirun(2, *shlex.split(command)[1:])) for command in commands]
check_equal(server.next_line(), "ready tp=2 pp=1 replicas=2", "the line of a server that is ready")
check_equal(ask(address, "--served-model-name", "austen")["token_ids"], alone["token_ids"],
            "ids by the served model's default name")
server.process.send_signal(signal.SIGTERM)
server.wait()
for replica in replicas:
    check_equal(replica.process.poll(), None, "the exit code of a replica that serve did not start")
    replica.process.send_signal(signal.SIGTERM)
    replica.wait(code=None)
check_no_leftovers()

# A replica whose controller stays away ends by itself, with one line.
lonely = Lines([BINARY, "worker", "--controller", "127.0.0.1:1", "--model", directory,
                "--controller-timeout", "0.2"])
lonely.wait(code=1)
lines = [line for line in lonely.log if line.startswith("trireme: ")]
check_equal(len(lines), 1, "lines that say why")
