#!/usr/bin/env python3
"""The table and the JSON of bench/gpu/run.sh, from what its steps left in a folder.

    bench/gpu/report.py FOLDER --json FILE [--quick]

Every figure stands beside a ceiling of the same run; the ratio is figure / ceiling, the reach what
the ratio should come to. Exits with 1 where a step failed or was cut.
"""
import argparse
import json
import pathlib
import re
import sys

# What the ratios should come to, on one H200.
GEMV = 0.85              # of one row
DECODE_ATTENTION = 0.85  # of one row, at the longest context
DECODE_ALONE = 0.8       # batch 1, against the weights alone
DECODE_MANY = 0.75       # batch 64, against weights and KV
PREFILL = 0.6
AHEAD = 1.0              # of torch.compile, batch 1
BUSY = 0.97              # of a decoding step, the GPU

# FLOP per byte above which a kernel is held against the matmul, not the copy.
INTENSE = 100


class Table:
    def __init__(self):
        self.rows = []

    def add(self, case, figure, unit, ceiling, ceiling_of, reach=None):
        self.rows.append({"case": case, "figure": figure, "unit": unit, "ceiling": ceiling,
                          "ceiling_of": ceiling_of, "ratio": figure / ceiling, "reach": reach})


def load(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def add_kernels(table, bench, reaches):
    copy, matmul = bench["bandwidth"]["bytes_per_s"], bench["rate"]["flop_per_s"]
    prefix = "exact " if bench["exact"] else ""
    longest = max(case["context"] for case in bench["cases"] if case["name"] == "attention.decode")
    for case in bench["cases"]:
        name, rows, context = case["name"], case["rows"], case["context"]
        label = f"{prefix}{name} T={rows}" + (f" context={context}" if context else "")
        if case["flop"] > INTENSE * case["bytes"]:
            table.add(label, case["flop"] / case["seconds"] * 1e-12, "TFLOP/s", matmul * 1e-12,
                      "matmul")
            continue
        reach = None
        if rows == 1 and reaches and name.endswith(".gemv"):
            reach = GEMV
        if rows == 1 and reaches and name == "attention.decode" and context == longest:
            reach = DECODE_ATTENTION
        table.add(label, case["bytes"] / case["seconds"] * 1e-9, "GB/s", copy * 1e-9, "copy", reach)


def add_engine(table, bench, reaches):
    prefix = "exact " if bench["exact"] else ""
    for case in bench["cases"]:
        label = f"{prefix}{bench['shape']} {case['name']}"
        if case["batch"] == 0:
            table.add(label, case["flop"] / case["seconds"] * 1e-12, "TFLOP/s",
                      case["flop_per_s"] * 1e-12, "matmul", PREFILL if reaches else None)
            continue
        alone = case["batch"] == 1
        bytes_per_step = bench["weight_bytes"] if alone else case["bytes"] / case["steps"]
        reach = DECODE_ALONE if alone else DECODE_MANY if case["batch"] == 64 else None
        table.add(label, case["tokens_per_s"], "tok/s",
                  case["batch"] * case["bytes_per_s"] / bytes_per_step,
                  "copy / weights" if alone else "copy / (weights + KV)", reach if reaches else None)
        if "idle_share" in case:
            step = case["seconds"] / case["steps"]
            table.add(f"{label}: GPU at work", case["device_seconds_per_step"] * 1e3, "ms/step",
                      step * 1e3, "step", BUSY if reaches else None)


def add_peers(table, peers, engine):
    """Ours against each peer's figure for the same shape and batch."""
    if not engine:
        return
    ours = {case["batch"]: case for case in engine["cases"]}
    for phase in peers.get("phases", []):
        case = ours.get(phase["batch"])
        if case is None or "tokens_per_s" not in phase:
            continue
        ahead = phase["mode"] == "compile" and phase["batch"] == 1
        table.add(f"{engine['shape']} {case['name']}, against PyTorch {phase['mode']}",
                  case["tokens_per_s"], "tok/s", phase["tokens_per_s"], f"PyTorch {phase['mode']}",
                  AHEAD if ahead else None)


def crossover(bench):
    """Of each matrix and number of rows, what the GEMV and cuBLASLt take, in microseconds."""
    times = {(case["name"], case["rows"]): case["seconds"] * 1e6 for case in bench["cases"]}
    return [{"matrix": name.removesuffix(".gemv"), "rows": rows, "gemv_us": us,
             "gemm_us": times[name.removesuffix("v") + "m", rows]}
            for (name, rows), us in times.items()
            if name.endswith(".gemv") and (name.removesuffix("v") + "m", rows) in times]


def print_table(report):
    print(f"\n{report['gpu'] or report['device']}, driver {report['driver'] or 'unknown'}, "
          f"{report['version'] or 'version unknown'}, commit {report['commit'] or 'unknown'}, "
          f"{report['date']}")
    if not report["counts"]:
        print("A trial: no figure below says anything of a GPU's speed.")
    width = max([len(row["case"]) for row in report["rows"]], default=4) + 1
    print(f"{'case':{width}}{'figure':>11} {'unit':8}{'ceiling':>11} {'of':22}{'ratio':>8}"
          f"{'reach':>8}")
    for row in sorted(report["rows"], key=lambda row: row["reach"] is None):
        reach, met = row["reach"], row["met"]
        wanted = "" if reach is None else f"{reach:.0%}"
        verdict = "" if met is None else "  reached" if met else "  MISSED"
        print(f"{row['case']:{width}}{row['figure']:11.4g} {row['unit']:8}{row['ceiling']:11.4g} "
              f"{row['ceiling_of']:22}{row['ratio']:8.1%}{wanted:>8}{verdict}")
    if report["crossover"]:
        print(f"\n{'GEMV or cuBLASLt':20}{'rows':>6}{'gemv us':>11}{'gemm us':>11}")
        for one in report["crossover"]:
            print(f"{one['matrix']:20}{one['rows']:6}{one['gemv_us']:11.2f}{one['gemm_us']:11.2f}  "
                  f"{'gemv' if one['gemv_us'] <= one['gemm_us'] else 'gemm'}")
    for one in (report["comm"] or {}).get("communicators", []):
        sums = [verb for verb in one["verbs"] if verb["verb"] == "AllReduce"]
        if sums:
            print(f"{one['communicator']}: AllReduce of {sums[-1]['bytes']} bytes, bus bandwidth "
                  f"{sums[-1]['bus_gbps']:.1f} GB/s")
    print()
    for phase in report["peers"].get("phases", []):
        if "cut" in phase:
            print(f"PyTorch {phase['mode']}, {phase['name']}: {phase['cut']}")
    if "unavailable" in report["peers"]:
        print(f"peer not available: {report['peers']['unavailable']}")
    for step in report["steps"]:
        if step["state"] != "ok":
            print(f"{step['step']}: {step['state']}: {step['said']}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--json", required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    def lines(name):
        return [line.split("\t") for line in (args.folder / name).read_text().splitlines()]

    facts = {key: value or None for key, value in lines("facts")}
    steps = [{"step": name, "state": state, "seconds": int(seconds), "said": said}
             for name, state, seconds, said in lines("steps")]
    kernels, engine, kernels_exact, engine_exact, comm, peers = (
        load(args.folder, name) for name in ("kernels", "engine", "kernels.exact", "engine.exact",
                                             "comm", "peers"))
    found = [bench for bench in (kernels, engine, kernels_exact, engine_exact) if bench]
    # "cuda NVIDIA H200 (sm_90)"
    device = found[0]["device"].removeprefix("cuda ") if found else "unknown"
    device = re.sub(r" \(sm_\d+\).*", "", device)
    emulated = device == "emulated"
    counts = bool(found) and not emulated and not args.quick

    table = Table()
    for bench in (kernels, kernels_exact):
        if bench:
            add_kernels(table, bench, bench is kernels)
    for bench in (engine, engine_exact):
        if bench:
            add_engine(table, bench, bench is engine)
    add_peers(table, peers or {}, engine)
    for row in table.rows:
        row["met"] = row["ratio"] >= row["reach"] if counts and row["reach"] is not None else None

    report = {**facts, "device": device, "gpu": None if emulated else device,
              "build_id": found[0]["build_id"] if found else None, "counts": counts,
              "ceilings": {name: bench[key] for name, key, bench in (
                  ("copy", "bandwidth", kernels), ("matmul", "rate", kernels)) if bench},
              "rows": table.rows, "crossover": crossover(kernels) if kernels else [],
              "peers": peers or {}, "comm": comm, "steps": steps}
    print_table(report)
    pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {args.json}")
    # A peer that is cut or missing says nothing of Trireme.
    sys.exit(any(s["state"] in ("failed", "cut") for s in steps if s["step"] != "peers"))


main()
