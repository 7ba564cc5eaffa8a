#!/usr/bin/env python3
"""One replica over two hosts (network namespaces with host names of their own, pp=2 over TCP) and a
client on a third."""
import json
import os
import pathlib
import tempfile

from harness import Server, check_equal, generate, model, run, skip

if os.geteuid() != 0:
    skip("network namespaces need root")
TAG = f"trireme{os.getpid()}"
NET = "10.77.0"
HOSTS = ["a", "b", "c"]


def ip(*args):
    run(["ip", *args])


def namespace(host):
    return f"{TAG}-{host}"


def on(host, command):
    """The command in the host's network, under its name."""
    return ["ip", "netns", "exec", namespace(host), "unshare", "--uts", "sh", "-c",
            f'hostname node{host}; exec "$@"', "sh", *command]


def lay_network():
    """Every host has an interface `eth` on one bridge in a namespace of its own."""
    made = run(["ip", "netns", "add", namespace("switch")], code=None)
    if made.returncode != 0:
        skip(f"no network namespace can be made here: {made.stderr.strip()}")
    entered = run(["ip", "netns", "exec", namespace("switch"), "true"], code=None)
    if entered.returncode != 0:
        clear_network()
        skip(f"no network namespace can be entered here: {entered.stderr.strip()}")
    ip("-n", namespace("switch"), "link", "add", "bridge0", "type", "bridge")
    ip("-n", namespace("switch"), "link", "set", "bridge0", "up")
    for i, host in enumerate(HOSTS, 1):
        ip("netns", "add", namespace(host))
        # The kernel's own names keep parallel runs apart: both ends are made inside.
        ip("-n", namespace(host), "link", "add", "eth", "type", "veth", "peer", "name",
           f"port{host}", "netns", namespace("switch"))
        ip("-n", namespace("switch"), "link", "set", f"port{host}", "master", "bridge0", "up")
        ip("-n", namespace(host), "addr", "add", f"{NET}.{i}/24", "dev", "eth")
        ip("-n", namespace(host), "link", "set", "eth", "up")
        ip("-n", namespace(host), "link", "set", "lo", "up")


def clear_network():
    for host in [*HOSTS, "switch"]:
        run(["ip", "netns", "del", namespace(host)], code=None)


def rsh_agent(folder):
    """What mpirun calls as `ssh HOST COMMAND`: enters the other namespace."""
    agent = pathlib.Path(folder) / "agent"
    agent.write_text(
        "#!/bin/sh\nhost=$1; shift\n"
        f'exec ip netns exec {TAG}-${{host#node}} unshare --uts '
        'sh -c "hostname $host; exec sh -c \\"\\$1\\"" - "$*"\n')
    agent.chmod(0o755)
    return agent


directory = model("austen")
request = ["--prompt", "It was", "--max-tokens", "40", "--seed", "3"]
alone = generate("--model", directory, *request)

try:
    lay_network()
    with tempfile.TemporaryDirectory() as folder:
        launch_args = (
            f"-H nodea:1,nodeb:1 --mca plm_rsh_agent {rsh_agent(folder)} --mca btl tcp,self "
            f"--mca btl_tcp_if_include {NET}.0/24 --mca oob_tcp_if_include {NET}.0/24")
        server = Server("--insecure", "--model", directory, "--pp", "2", "--launch-args", launch_args,
                        grpc_addr=f"{NET}.1:0", around=lambda command: on("a", command))
        found = json.loads(run(on("c", server.client(*request, "--json"))).stdout)
        check_equal(found["token_ids"], alone["token_ids"], "ids over two hosts")
        check_equal(found["text"], alone["text"], "text over two hosts")
        stats = server.stats()
        check_equal(stats["replicas"][0]["hosts"], ["nodea", "nodeb"], "the ranks' hosts")
        server.stop()
finally:
    clear_network()
