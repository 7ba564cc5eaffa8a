#!/usr/bin/env python3
"""Decode at batch 1 on one core, on one rank of two threads and on two tensor-parallel ranks.

    bench/layouts.py [--trireme build/trireme] [--shape tinyllama-1.1b] [--dtype bf16] [--turns 5]

Runs `trireme bench engine` for the three layouts in turns, because a shared machine changes from
minute to minute, and prints each layout's median tokens/s and the medians of the ratios within a
turn, beside that of the read bandwidth, which bounds them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

LAYOUTS = {"1 rank x 1 thread": (1, 1), "1 rank x 2 threads": (1, 2), "tp 2 x 1 thread": (2, 1)}


def measure(args, tp, threads):
    """(tokens/s, read bandwidth in bytes/s), both of the cores that the layout uses."""
    with tempfile.TemporaryDirectory() as folder:
        figures = os.path.join(folder, "figures.json")
        command = [args.trireme, "bench", "engine", "--shape", args.shape, "--dtype", args.dtype,
                   "--tp", str(tp), "--threads", str(threads), "--batches", "1", "--rounds", "3",
                   "--prompt-tokens", "32", "--json-file", figures]
        if tp > 1:
            command = ["mpirun", "-n", str(tp), "--oversubscribe", "--bind-to", "none", *command]
        env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
        with open(figures) as text:
            cases = json.load(text)["cases"]
    case = next(c for c in cases if c["name"] == "decode, batch 1")
    return case["tokens_per_s"], case["bytes_per_s"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trireme", default="build/trireme")
    parser.add_argument("--shape", default="tinyllama-1.1b")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    turns = []
    for _ in range(args.turns):
        turns.append({name: measure(args, *layout) for name, layout in LAYOUTS.items()})
        print("  ".join(f"{name}: {speed:.1f}, {read * 1e-9:.0f} GB/s"
                        for name, (speed, read) in turns[-1].items()), flush=True)

    def ratio(a, b, what):
        return statistics.median(turn[a][what] / turn[b][what] for turn in turns)

    one, threads, ranks = LAYOUTS
    for name in LAYOUTS:
        print(f"{name}: median {statistics.median(turn[name][0] for turn in turns):.1f} tokens/s")
    print(f"{ranks} / {threads}: {ratio(ranks, threads, 0):.2f}")
    print(f"{ranks} / {one}: {ratio(ranks, one, 0):.2f} (read bandwidth: {ratio(ranks, one, 1):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
