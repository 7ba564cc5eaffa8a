#!/usr/bin/env python3
"""`trireme bench serve` against a real server, over both protocols: its figures are the server's own
counters, its latencies are at least what the server measured, and what fails is counted."""
import json
import pathlib
import tempfile
import urllib.request

from harness import BINARY, Server, check, check_equal, model, run

folder = tempfile.TemporaryDirectory()
server = Server("--model", model("austen"), "--http-addr", "127.0.0.1:0")
ADDRESS = {"grpc": server.address, "http": server.http_address}


def bench(protocol, *args, code=0):
    """(stdout, the JSON file) of a bench."""
    file = pathlib.Path(folder.name) / "figures.json"
    file.unlink(missing_ok=True)
    done = run([BINARY, "bench", "serve", "--server", ADDRESS[protocol], "--protocol", protocol,
                "--json-file", str(file), *args], code=code)
    return done, json.loads(file.read_text()) if file.exists() else None


def metric(name):
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://{server.http_address}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines
               if line.startswith((f"trireme_{name}{{", f"trireme_{name} ")))


COUNTERS = ["time_to_first_token_seconds_sum", "time_to_first_token_seconds_count",
            "e2e_request_latency_seconds_sum", "prompt_tokens_total", "generation_tokens_total"]


def check_figures(figures, n, before, after, stats_before, stats_after):
    grew = {name: after[name] - before[name] for name in COUNTERS}
    requests = {name: stats_after[name] - stats_before[name] for name in stats_after}
    check_equal((figures["ok"], figures["failed"]), (n, 0), "requests")
    check_equal(requests["finished"], n, "finished by the server's count")
    check_equal(figures["prompt_tokens"], requests["prompt_tokens"], "prompt tokens by GetStats")
    check_equal(figures["output_tokens"], requests["completion_tokens"], "output tokens by GetStats")
    check_equal(figures["prompt_tokens"], grew["prompt_tokens_total"], "prompt tokens by /metrics")
    check_equal(figures["output_tokens"], grew["generation_tokens_total"], "output tokens by /metrics")
    check_equal(grew["time_to_first_token_seconds_count"], n, "first tokens by /metrics")
    check(abs(figures["qps"] * figures["seconds"] - n) < 1e-6, f"QPS {figures}")
    check(abs(figures["output_tokens_per_s"] * figures["seconds"] - figures["output_tokens"]) < 1e-3,
          f"output tokens/s {figures}")
    # The client's clock begins before the server's and ends after it.
    for mine, theirs in [("ttft_s", "time_to_first_token_seconds_sum"),
                         ("e2e_s", "e2e_request_latency_seconds_sum")]:
        check(figures[mine]["mean"] >= grew[theirs] / n, f"{mine} below the server's {grew}: {figures}")
        check(figures[mine]["p50"] <= figures[mine]["p90"] <= figures[mine]["p99"], figures)
    check(figures["tbt_s"]["p50"] > 0, f"no TBT: {figures}")
    check(figures["ttft_s"]["mean"] < figures["e2e_s"]["mean"], f"TTFT beyond the end: {figures}")


def observe():
    return {name: metric(name) for name in COUNTERS}, server.stats()["requests"]


LOAD = ["--prompt-tokens", "8..24", "--output-tokens", "4..12", "--seed", "5"]
totals = {}
for protocol in ("grpc", "http"):
    for arrivals in (["--concurrency", "4"], ["--rate", "50"]):
        before, stats_before = observe()
        done, report = bench(protocol, *LOAD, *arrivals, "--requests", "30", "--goodput", "e2e:1h")
        after, stats_after = observe()
        check_equal(len(report["runs"]), 1, "runs")
        figures = report["runs"][0]
        check_figures(figures, 30, before, after, stats_before, stats_after)
        check_equal(figures["goodput_qps"], figures["qps"], "goodput within an hour")
        check_equal(len(done.stdout.splitlines()), 3, "lines of the table")
        totals.setdefault(arrivals[0], set()).add((figures["prompt_tokens"], figures["output_tokens"]))
for arrivals, drawn in totals.items():
    check_equal(len(drawn), 1, f"loads of one seed by {arrivals}, over both protocols")

# Warm-up is not counted, a shared prefix is found in the cache, each rate is a run of its own.
hits = server.stats()["replicas"][0]["prefix_hits"]
_, report = bench("http", "--prompt-tokens", "128", "--output-tokens", "2", "--shared-prefix", "0.5",
                  "--rate", "40,80", "--requests", "10", "--warmup", "3")
check_equal([(r["rate"], r["ok"]) for r in report["runs"]], [(40, 10), (80, 10)], "runs")
found = server.stats()["replicas"][0]["prefix_hits"] - hits
check(20 * 48 <= found <= 26 * 64, f"{found} tokens of 26 prefixes of 64 were found in the cache")

# A trace with timestamps is sent at its own times.
trace = pathlib.Path(folder.name) / "trace.jsonl"
trace.write_text("".join(json.dumps(line) + "\n" for line in [
    {"timestamp": 0, "input_length": 20, "output_length": 3, "hash_ids": [1]},
    {"timestamp": 400, "prompt": "It was a truth", "output_length": 5}]))
_, report = bench("grpc", "--trace", str(trace))
check_equal((report["runs"][0]["ok"], report["runs"][0]["output_tokens"]), (2, 8), "a trace's requests")
check(report["runs"][0]["seconds"] >= 0.4, "a trace is not sent before its time")

# Failures are counted by kind, with an example, and nothing that succeeded is a failure of its own.
for protocol, kind in (("grpc", "INVALID_ARGUMENT"), ("http", "HTTP 400")):
    done, report = bench(protocol, "--prompt-tokens", "9000", "--requests", "3", code=1)
    check_equal(report["runs"][0]["failed"], 3, "failed")
    check_equal(report["runs"][0]["errors"][kind]["n"], 3, f"errors of kind {kind}")
    check("3 failed: " + kind in done.stdout, done.stdout)
    check("no request succeeded" in done.stderr, done.stderr)
ADDRESS["http"] = ADDRESS["grpc"] = "127.0.0.1:1"
check("127.0.0.1:1" in bench("http", code=1)[0].stderr, "nobody listens")
check("127.0.0.1:1" in bench("grpc", code=1)[0].stderr, "nobody listens")
server.stop()
folder.cleanup()
