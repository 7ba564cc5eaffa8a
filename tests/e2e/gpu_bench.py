#!/usr/bin/env python3
"""bench/gpu/run.sh over a folder laid out as a bundle, on the emulated device: its table and JSON,
and what it says of tests and benches that fail or do not end.

usage: gpu_bench.py CUDA_ATTENTION_TEST, with $TRIREME_BINARY the emulated build
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from harness import BINARY, ENV, PATIENCE_S, SOURCE, check, check_equal

ATTENTION_TEST = sys.argv[1]
PASSES = 'echo "[  PASSED  ] 3 tests."'
FAILS = 'echo "[  PASSED  ] 2 tests."; echo "[  FAILED  ] 1 test, listed below:"; exit 1'
# The wrappers' own test is the real one, so that its filter is seen to name tests.
WRAPPERS_PASS = f'case "$*" in *Mma*) exec {ATTENTION_TEST} "$@" ;; *) {PASSES} ;; esac'
WRAPPERS_FAIL = f'case "$*" in *Mma*) {FAILS} ;; *) {PASSES} ;; esac'
PEERS = {"torch": "2", "transformers": "5", "phases": [
    {"name": "decode, batch 1", "mode": "compile", "batch": 1, "context": 16, "tokens_per_s": 5.0},
    {"name": "decode, batch 64", "mode": "compile", "batch": 64, "context": 16,
     "cut": "stopped after 7 s"}]}


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def bench(trireme=f'exec {BINARY} "$@"', attention=WRAPPERS_PASS, ops=PASSES, flags=(), peers=None):
    """(exit code, output, report or None)"""
    with tempfile.TemporaryDirectory() as folder:
        bundle = pathlib.Path(folder) / "bundle"
        script(bundle / "bin" / "trireme", trireme)
        for name, text in (("linear", PASSES), ("attention", attention), ("ops", ops)):
            script(bundle / "libexec" / "tests" / f"cuda_{name}_test", text)
        (bundle / "COMMIT").write_text("0123abcd\n")
        python = sys.executable
        if peers is not None:
            canned = bundle / "peers.json"
            canned.write_text(json.dumps(peers))
            python = str(bundle / "python")
            script(bundle / "python", f'case "$2" in */peers.py) while [ "$1" != --json ]; do shift; '
                   f'done; exec cp {canned} "$2" ;; *) exec {sys.executable} "$@" ;; esac')
        out = pathlib.Path(folder) / "found.json"
        done = subprocess.run([SOURCE / "bench/gpu/run.sh", "--quick", "--json", out, *flags, bundle],
                              env=ENV | {"PYTHON": python}, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=2 * PATIENCE_S)
        report = json.loads(out.read_text()) if out.exists() else None
        check(report is None or out.with_suffix(".log").read_text(), "the steps' log is empty")
        return done.returncode, done.stdout, report


def states(report):
    return {step["step"]: step["state"] for step in report["steps"]}


# All of it: every figure beside its ceiling, and none called a GPU's.
code, output, report = bench(peers=PEERS)
check_equal(code, 0, f"exit code of\n{output}")
found = states(report)
check_equal(found, {"test.mma": "ok", "test.linear": "ok", "test.attention": "ok", "test.ops": "ok",
                    "kernels": "ok", "engine": "ok", "kernels.exact": "ok", "engine.exact": "ok",
                    "comm": "skipped", "peers": "ok"}, "the steps")
check_equal([report[key] for key in ("device", "gpu", "counts", "commit")],
            ["emulated", None, False, "0123abcd"], "what was measured")
check("no figure below says anything of a GPU's speed" in output, output)
check(report["date"] and report["build_id"] and report["version"], "date, build and version")
rows = {row["case"]: row for row in report["rows"]}
check_equal(len(rows), len(report["rows"]), "cases that differ")
linears = [f"linear.{m}" for m in ("qkv", "o", "gate_up", "down", "lm_head")]
reaches = {f"{linear}.gemv T=1": 0.85 for linear in linears} | {
    "attention.decode T=1 context=64": 0.85, "tiny prefill 64": 0.6, "tiny decode, batch 1": 0.8,
    "tiny decode, batch 1: GPU at work": 0.97, "tiny decode, batch 64": 0.75,
    "tiny decode, batch 1, against PyTorch compile": 1.0}
others = [f"{linear}{way} T={t}" for linear in linears for way in ("", ".gemm") for t in (1, 2)] + [
    "attention.decode T=64 context=64", "attention.prefill T=64 context=64", "add_rms_norm T=64",
    "gated_silu T=1", "rope_store_kv T=1", "embed T=1", "sample.greedy T=1", "cutoff.top_p T=1",
    "exact linear.qkv T=1", "exact attention.decode T=1 context=64", "exact tiny prefill 64",
    "exact tiny decode, batch 1"]
for case in [*reaches, *others]:
    check(case in rows, f"{case} is not among {list(rows)}")
for case, row in rows.items():
    check(row["figure"] > 0 and row["ceiling"] > 0, f"{case}: {row}")
    check(abs(row["ratio"] * row["ceiling"] / row["figure"] - 1) < 1e-9, f"ratio of {case}: {row}")
    check(row["met"] is None, f"{case} is held against a reach: {row}")
    check(any(line.startswith(case + " ") for line in output.splitlines()), f"no line of {case}")
for case, reach in reaches.items():
    check_equal(rows[case]["reach"], reach, f"reach of {case}")
check_equal(rows["linear.qkv.gemv T=1"]["ceiling"],
            report["ceilings"]["copy"]["bytes_per_s"] * 1e-9, "the ceiling of a GEMV")
check_equal({one["rows"] for one in report["crossover"]}, {1, 2}, "rows of GEMV against GEMM")
check("decode, batch 64: stopped after 7 s" in output, f"what was cut is not said:\n{output}")

# A test that fails is said, and the benches still run; so does one of them that fails.
code, output, report = bench(trireme='echo "trireme: it is broken"; exit 1', ops=FAILS)
check_equal(code, 1, f"exit code of\n{output}")
check_equal({k: v for k, v in states(report).items() if v == "failed"}, dict.fromkeys(
    ["test.ops", "kernels", "engine", "kernels.exact", "engine.exact"], "failed"), "the steps")
check("test.ops: failed: PASSED 2 test FAILED 1 test" in output, output)
check("kernels: failed: trireme: it is broken" in output, output)

# Tests that are not there, or none of which ran, have not passed.
code, output, report = bench(trireme="exit 1", ops="exit 0")
check("test.ops: failed: no test ran" in output, output)

# Without the wrappers nothing else runs.
code, output, report = bench(attention=WRAPPERS_FAIL)
check_equal(code, 1, f"exit code of\n{output}")
check_equal(states(report), {"test.mma": "failed", "benches": "failed"}, "the steps")

# What does not end is cut, in time.
code, output, report = bench(trireme='[ "$1" = version ] || exec tail -f /dev/null',
                             attention=PASSES, flags=["--seconds", "3"])
check_equal(code, 1, f"exit code of\n{output}")
check_equal(states(report)["kernels"], "cut", "a bench that does not end")
check("engine: cut: no time was left" in output, output)

run_sh = str(SOURCE / "bench/gpu/run.sh")
for arguments, said in ((["--quick"], "expected BUNDLE"), (["/nowhere"], "no /nowhere/bin/trireme"),
                        (["--fast", "x"], "unknown option --fast"),
                        (["--seconds", "ten", "x"], "--seconds: expected a whole number, not ten")):
    refused = subprocess.run([run_sh, *arguments], text=True, capture_output=True, env=ENV)
    check_equal(refused.returncode, 2, f"exit code of run.sh {arguments}")
    check(refused.stderr.startswith(f"run.sh: {said}"), refused.stderr)
