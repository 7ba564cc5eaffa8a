#!/usr/bin/env python3
"""Who is let in: API keys over gRPC and HTTP, the secret of replicas, addresses beyond this host."""
import json
import os
import pathlib
import signal
import tempfile
import urllib.error
import urllib.request

from harness import BINARY, Lines, Server, check, check_equal, model, run

directory = model("austen")
folder = tempfile.TemporaryDirectory()
keys = pathlib.Path(folder.name) / "keys.txt"


def new_key(*args):
    """Adds a key's line to the file, and returns the key."""
    made = run([BINARY, "key", *args])
    with keys.open("a") as file:
        file.write(made.stdout)
    return made.stderr.strip().rpartition(" ")[2]


user, admin = new_key("team-a"), new_key("ops", "--admin")
server = Server("--model", directory, "--tp", "2", "--api-keys", str(keys), "--http-addr",
                "127.0.0.1:0")
REQUEST = ["--prompt", "It was", "--max-tokens", "5", "--json"]


def ask(*args, code=0, env=None):
    return run(server.client(*REQUEST, *args), code=code, env=env)


def post(headers, path="/v1/completions"):
    body = json.dumps({"prompt": "It was", "max_tokens": 5}).encode()
    request = urllib.request.Request(f"http://{server.http_address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


check("text" in ask("--api-key", user).stdout, "a request with its key")
check("text" in ask(env={"TRIREME_API_KEY": user}).stdout, "a key from the environment")
for refused in (ask(code=1), ask("--api-key", "tk-wrong", code=1)):
    check("UNAUTHENTICATED" in refused.stderr, refused.stderr)
    print(refused.stderr.strip())
check_equal(post({"Authorization": f"Bearer {user}"})[0], 200, "status with a key")
for headers in ({}, {"Authorization": "Bearer tk-wrong"}, {"Authorization": user}):
    status, answer = post(headers)
    check_equal((status, answer["error"]["code"]), (401, "invalid_api_key"), f"status with {headers}")
    print(answer)
check_equal(post({}, "/tokenize")[0], 401, "tokenize without a key")
with urllib.request.urlopen(f"http://{server.http_address}/health") as health:
    check_equal(health.status, 200, "health needs no key")

stats = [BINARY, "ctl", "stats", "--server", server.address]
check("PERMISSION_DENIED" in run([*stats, "--api-key", user], code=1).stderr, "stats for a user")
check("UNAUTHENTICATED" in run(stats, code=1).stderr, "stats without a key")
ranks = json.loads(run([*stats, "--api-key", admin]).stdout)["replicas"][0]["rank_pids"]

# A key that is taken out of the file lets nobody in any more.
lines = keys.read_text().splitlines(keepends=True)
keys.write_text(lines[1])
os.utime(keys, (0, 0))
check("UNAUTHENTICATED" in ask("--api-key", user, code=1).stderr, "a key that was taken away")

# Nobody joins as a replica without the secret that serve gives its own; those come back with it.
stranger = Lines([BINARY, "worker", "--controller", server.address, "--model", directory])
stranger.wait(code=1)
said = [line for line in stranger.log if line.startswith("trireme: ")]
check(len(said) == 1 and "does not know the secret" in said[0], f"a stranger: {stranger.log}")
print(said[0])
os.kill(int(ranks[0]), signal.SIGKILL)
server.wait_for_log("lost")
check("text" in ask("--api-key", admin).stdout, "a request after the replica's return")
server.stop()

# Other hosts may dial only where that was asked for.
refused = run([BINARY, "controller", "--grpc-addr", "0.0.0.0:0", "--api-keys", str(keys)], code=2)
check("could join as a replica" in refused.stderr, refused.stderr)
print(refused.stderr.strip())
for flag in ("--grpc-addr", "--http-addr"):
    refused = run([BINARY, "controller", flag, "0.0.0.0:0"], code=2)
    check("or --insecure" in refused.stderr and flag in refused.stderr, refused.stderr)
