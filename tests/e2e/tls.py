#!/usr/bin/env python3
"""TLS with certificates on both sides: clients over gRPC and HTTP, replicas, files that change."""
import http.client
import json
import os
import signal
import socket
import ssl

from certificates import Certificate
from harness import BINARY, Lines, Server, check, check_equal, generate, model, run

directory = model("austen")
authority, stranger_authority = Certificate("authority"), Certificate("stranger-authority")
own = Certificate("server", authority)  # for llm.test, which is not what replicas dial
client = Certificate("client", authority, use="clientAuth")
stranger = Certificate("stranger", stranger_authority, use="clientAuth")
expired = Certificate("expired", authority, use="clientAuth", days=-1)

SERVE = ["--model", directory, "--tp", "2", "--http-addr", "127.0.0.1:0", *own.flags(),
         "--tls-client-ca", str(authority.cert)]
REQUEST = ["--prompt", "It was", "--max-tokens", "8", "--temperature", "0"]


def trusting(ca):
    return ["--tls-ca", str(ca.cert), "--tls-server-name", "llm.test"]


# A certificate for servers alone lets no replica in, which is told before one is started.
refused = run([BINARY, "serve", *SERVE], code=1).stderr
check("purpose" in refused and "give --replica-tls-cert" in refused, refused)
print(refused.strip())

server = Server(*SERVE, *client.flags("--replica-tls"))
KNOWN = [*trusting(authority), *client.flags()]


def post(certificate, ca=authority):
    """The answer over HTTP to one who shows `certificate`."""
    context = ssl.create_default_context(cafile=ca.cert)
    if certificate is not None:
        context.load_cert_chain(certificate.cert, certificate.key)
    host, port = server.http_address.split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.sock = context.wrap_socket(socket.create_connection((host, int(port))),
                                          server_hostname="llm.test")
    body = {"prompt": "It was", "max_tokens": 8, "temperature": 0}
    connection.request("POST", "/v1/completions", json.dumps(body))
    return json.loads(connection.getresponse().read())["choices"][0]["text"]


def refusal(*args):
    return run(server.client(*REQUEST, *args), code=1).stderr.strip()


expected = generate("--model", directory, *REQUEST)["text"]
check_equal(server.generate(*REQUEST, *KNOWN)["text"], expected, "text over gRPC")
streamed = run(server.client(*REQUEST, *KNOWN)).stdout
check_equal(streamed.strip(), expected.strip(), "text streamed over gRPC")
stats = json.loads(run([BINARY, "ctl", "stats", "--server", server.address, *KNOWN]).stdout)
check_equal(len(stats["replicas"]), 1, "replicas")
check_equal(post(client), expected, "text over HTTP")



def bench(protocol, *args, code=0):
    address = {"grpc": server.address, "http": server.http_address}[protocol]
    return run([BINARY, "bench", "serve", "--server", address, "--protocol", protocol, "--requests", "8",
                "--concurrency", "4", "--prompt-tokens", "8", "--output-tokens", "4", *args], code=code)


for protocol in ("grpc", "http"):
    row = bench(protocol, *KNOWN).stdout.splitlines()[-1].split()
    check_equal(row[:4], ["concurrency", "4", "8", "0"], f"what ended well and what failed by {protocol}")
    for what, args, said in (
            ("no certificate", trusting(authority), "certificate"),
            ("an authority that did not sign", [*trusting(stranger_authority), *client.flags()], "certificate"),
            ("another name", ["--tls-ca", str(authority.cert), *client.flags()], "ddress"),
            ("plain text", [], "does it want TLS")):
        line = bench(protocol, *args, code=1).stderr.strip()
        check(line.startswith("trireme: 127.0.0.1:") and said in line and "\n" not in line, f"{what}: {line}")
        print(f"bench by {protocol}, {what}: {line}")

# Who is refused, and what both sides say.
for what, args, said in (
        ("no certificate", trusting(authority), "does it want a certificate"),
        ("a stranger's", [*trusting(authority), *stranger.flags()], "does it not take this certificate"),
        ("one that has expired", [*trusting(authority), *expired.flags()], "expired on"),
        ("an authority that did not sign", [*trusting(stranger_authority), *client.flags()],
         "certificate verify failed"),
        ("another name", ["--tls-ca", str(authority.cert), *client.flags()], "127.0.0.1"),
        ("plain text", [], "does it want TLS")):
    line = refusal(*args)
    check(said in line and "\n" not in line, f"{what}: {line}")
    print(f"{what}: {line}")
for certificate, said in ((None, "peer did not return a certificate"),
                          (stranger, "unable to get local issuer certificate"),
                          (expired, "certificate has expired")):
    seen = len(server.log)
    try:
        post(certificate)
        check(False, f"HTTP with {certificate} was answered")
    except (ssl.SSLError, ConnectionError) as error:
        print("HTTP:", error)
    print(server.wait_for_log(said, after=seen))

server.wait_for_log("TLS with somebody who dials fails: peer did not return a certificate")  # gRPC

# A replica needs both a certificate and the secret.
for flags, said in ((KNOWN, "does not know the secret"),
                    (trusting(authority), "no controller at")):
    worker = Lines([BINARY, "worker", "--controller", server.address, "--model", directory, *flags,
                    "--controller-timeout", "1"])
    worker.wait(code=1)
    lines = [line for line in worker.log if line.startswith("trireme: ")]
    check(len(lines) == 1 and said in lines[0], f"a worker: {worker.log}")
    print(lines[0])

# A certificate of another authority, put into the files while this runs: new connections are shown
# it, and the replica, dialling again, trusts it as it trusted the one before.
own.becomes(Certificate("next", stranger_authority))
KNOWN = [*trusting(stranger_authority), *client.flags()]
check_equal(server.generate(*REQUEST, *KNOWN)["text"], expected, "text with the new certificate")
check_equal(post(client, stranger_authority), expected, "text over HTTP with the new certificate")
check("verify failed" in refusal(*trusting(authority), *client.flags()), "trust in the old one")
os.kill(int(stats["replicas"][0]["rank_pids"][0]), signal.SIGKILL)
server.wait_for_log("lost")
check_equal(server.generate(*REQUEST, *KNOWN)["text"], expected, "text after the replica's return")

# What is no certificate changes nothing but the log.
own.cert.write_text("hello\n")
check_equal(server.generate(*REQUEST, *KNOWN)["text"], expected, "text with a broken file")
server.wait_for_log("the certificates from before stay")
server.stop()
