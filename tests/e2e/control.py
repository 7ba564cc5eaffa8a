#!/usr/bin/env python3
"""`trireme ctl` on a server under load: each replica in turn is drained and replaced by a fresh one, and
no stream notices; a request is aborted."""
import json

from harness import BINARY, Lines, Server, check, check_equal, model, run

N_STREAMS = 12
server = Server("--model", model("austen"), "--tp", "2", "--replicas", "2")
server.await_stats(lambda s: len(s["replicas"]) == 2, "two replicas")


def ctl(*args, code=0):
    command, *flags = args
    return run([BINARY, "ctl", command, "--server", server.address, *flags], code=code)


def start(i):
    return Lines(server.client("--prompt", f"Chapter {i}.", "--max-tokens", "160", "--ignore-eos",
                               "--seed", str(i), "--json"))


def answers(clients):
    return [json.loads(c.wait()[0])["token_ids"] for c in clients]


check_equal(ctl("models").stdout, "austen\n", "the models")
undisturbed = answers([start(i) for i in range(N_STREAMS)])
for link in [r["link"] for r in server.stats()["replicas"]]:
    before = server.stats()["requests"]
    clients = [start(i) for i in range(N_STREAMS)]
    server.await_stats(lambda s: s["requests"]["completion_tokens"] > before["completion_tokens"],
                       "streams under way")
    ctl("drain", "--link", str(link))
    check_equal(answers(clients), undisturbed, f"ids while replica {link} was drained")
    stats = server.await_stats(lambda s: len(s["replicas"]) == 2, "the one that replaces it")
    check(all(r["link"] != link for r in stats["replicas"]), f"replica {link} is still there")
    check_equal((stats["requests"]["replicas_lost"], stats["requests"]["replayed"]), (0, 0),
                "losses and replays")
print(ctl("drain", "--link", "99", code=1).stderr.strip())

client = Lines(server.client("--prompt", "It was", "--max-tokens", "250", "--ignore-eos",
                             "--request-id", "mine"))
while ctl("abort", "--request-id", "mine", code=None).returncode != 0:
    check(client.process.poll() is None, "the request ended before it was aborted")
client.wait(code=None)
check("aborted by an operator" in "\n".join(client.log) or client.process.returncode == 130,
      f"what an aborted client is told: {client.log}")
check("NOT_FOUND" in ctl("abort", "--request-id", "mine", code=1).stderr, "an unknown request")
server.stop()
