#!/usr/bin/env python3
"""Probes and metrics on a port of their own, by HTTP and gRPC: in plain text and without keys, whatever
clients need."""
import os
import pathlib
import signal
import socket
import tempfile
import urllib.error
import urllib.request

import harness
from certificates import Certificate
from harness import BINARY, Lines, Server, check, check_equal, model, run

harness.in_venv("grpcio==1.85.1", "grpcio-health-checking==1.85.1")

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

SERVICE = "trireme.v1.Inference"
directory = model("austen")


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health(address, service=""):
    """As Kubernetes's gRPC probe asks."""
    with grpc.insecure_channel(address) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=60)
        return HealthCheckResponse.ServingStatus.Name(answer.status)


# A controller lives without a replica; it is not ready.
alone = Lines([BINARY, "controller", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
alone.next_line()
address = alone.next_line().removeprefix("admin ")
check_equal(get(address, "/live"), (200, '{"live":true}'), "live without a replica")
for path in ("/ready", "/health"):
    check_equal(get(address, path), (503, '{"ready":false,"replicas":0}'), path)
for service in ("", SERVICE):
    check_equal(health(address, service), "NOT_SERVING", f"health of {service!r} without a replica")
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
    for service in ("", SERVICE):
        check_equal(health(admin, service), "SERVING", f"health of {service!r}")
    status, metrics = get(admin, "/metrics")
    check_equal(status, 200, "metrics")
    check("trireme_num_requests_running" in metrics, metrics)
    # Nothing else is there.
    for path in ("/v1/models", "/v1/completions", "/version", "/"):
        check_equal(get(admin, path)[0], 404, path)
    refused = run([BINARY, "generate", "--server", admin, "--prompt", "It was"], code=1).stderr
    check("UNIMPLEMENTED" in refused, refused)
    # Connections of both kinds that never say a word end with the server.
    host, _, port = admin.rpartition(":")
    mute = socket.create_connection((host, int(port)))
    half = socket.create_connection((host, int(port)))
    half.sendall(b"PRI * HTTP/2.0\r\n")

    # A replica that stands still is no reason to end its controller.
    rank, = server.ranks().values()
    os.kill(rank, signal.SIGSTOP)
    check_equal(get(admin, "/live")[0], 200, "live beside a replica that stands still")
    os.kill(rank, signal.SIGCONT)
    server.stop()
