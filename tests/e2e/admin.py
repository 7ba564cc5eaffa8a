#!/usr/bin/env python3
"""Probes and metrics on a port of their own: in plain text and without keys, whatever clients need."""
import os
import pathlib
import signal
import tempfile
import urllib.error
import urllib.request

from certificates import Certificate
from harness import BINARY, Lines, Server, check, check_equal, model, run

directory = model("austen")


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# A controller lives without a replica; it is not ready.
alone = Lines([BINARY, "controller", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
alone.next_line()
address = alone.next_line().removeprefix("admin ")
check_equal(get(address, "/live"), (200, '{"live":true}'), "live without a replica")
for path in ("/ready", "/health"):
    check_equal(get(address, path), (503, '{"ready":false,"replicas":0}'), path)
alone.process.send_signal(signal.SIGTERM)
alone.wait()

with tempfile.TemporaryDirectory() as folder:
    keys = pathlib.Path(folder) / "keys.txt"
    keys.write_text(run([BINARY, "key", "team-a"]).stdout)
    own = Certificate("server", Certificate("authority"))
    server = Server("--model", directory, "--api-keys", str(keys), *own.flags(), "--admin-addr",
                    "127.0.0.1:0")
    admin = server.admin_address
    check_equal(get(admin, "/ready"), (200, '{"ready":true,"replicas":1}'), "ready")
    status, metrics = get(admin, "/metrics")
    check_equal(status, 200, "metrics")
    check("trireme_num_requests_running" in metrics, metrics)
    # Nothing else is there.
    for path in ("/v1/models", "/v1/completions", "/version", "/"):
        check_equal(get(admin, path)[0], 404, path)
    refused = run([BINARY, "generate", "--server", admin, "--prompt", "It was"], code=1).stderr
    check("UNAVAILABLE" in refused, refused)

    # A replica that stands still is no reason to end its controller.
    rank, = server.ranks().values()
    os.kill(rank, signal.SIGSTOP)
    check_equal(get(admin, "/live")[0], 200, "live beside a replica that stands still")
    os.kill(rank, signal.SIGCONT)
    server.stop()
