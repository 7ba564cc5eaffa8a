#!/usr/bin/env python3
"""A tenant that floods the server delays itself: both tenants' TTFT, measured by `bench serve`, while one
asks with 96 clients at a time and the other with one."""
import json
import pathlib
import tempfile

from harness import BINARY, Lines, Server, check, model, run

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    keys = {}
    lines = []
    for tenant in ("flood", "modest"):
        made = run([BINARY, "key", tenant])
        lines.append(made.stdout)
        keys[tenant] = made.stderr.split()[-1]
    admin = run([BINARY, "key", "--admin", "watch"])
    (folder / "keys.txt").write_text("".join([*lines, admin.stdout]))
    server = Server("--model", model("austen"), "--max-rows", "8", "--api-keys",
                    str(folder / "keys.txt"))

    def bench(tenant, concurrency, requests):
        return Lines([BINARY, "bench", "serve", "--server", server.address, "--api-key", keys[tenant],
                      "--concurrency", str(concurrency), "--requests", str(requests),
                      "--prompt-tokens", "16", "--output-tokens", "64",
                      "--json-file", str(folder / f"{tenant}.json")])

    flood = bench("flood", 96, 600)
    modest = bench("modest", 1, 30)
    modest.wait()
    flood.wait()
    ttft = {}
    for tenant in keys:
        figures = json.loads((folder / f"{tenant}.json").read_text())["runs"][0]
        check(figures["failed"] == 0, f"{tenant}: {figures}")
        ttft[tenant] = figures["ttft_s"]
        print(f"{tenant}: TTFT p50 {1e3 * figures['ttft_s']['p50']:.0f} ms, "
              f"p99 {1e3 * figures['ttft_s']['p99']:.0f} ms")
    # In turn with the flood's, not behind them: 96 clients on 8 rows wait for eleven others each.
    check(ttft["modest"]["p50"] < ttft["flood"]["p50"] / 2, "the flood delays the other tenant")
    server.stop()
