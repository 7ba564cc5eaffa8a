#!/usr/bin/env python3
"""One replica over two hosts (network namespaces with host names of their own, pp=2 over TCP) and a
client on a third."""
import json
import tempfile

from harness import Server, check_equal, generate, model, run
from network import Network

directory = model("austen")
request = ["--prompt", "It was", "--max-tokens", "40", "--seed", "3"]
alone = generate("--model", directory, *request)

with Network("a", "b", "c") as network, tempfile.TemporaryDirectory() as folder:
    server = Server("--insecure", "--model", directory, "--pp", "2", "--launch-args",
                    network.launch_args(folder, "a", "b"),
                    grpc_addr=f"{network.address('a')}:0",
                    around=lambda command: network.on("a", command))
    found = json.loads(run(network.on("c", server.client(*request, "--json"))).stdout)
    check_equal(found["token_ids"], alone["token_ids"], "ids over two hosts")
    check_equal(found["text"], alone["text"], "text over two hosts")
    stats = server.stats()
    check_equal(stats["replicas"][0]["hosts"], ["nodea", "nodeb"], "the ranks' hosts")
    server.stop()
