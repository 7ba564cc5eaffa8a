#!/usr/bin/env python3
"""The same ids from every layout under mpirun as from one process.   usage: layouts.py MODEL"""
import sys

from harness import check, check_equal, config, generate, model

EXPECTED = {
    "stories260k": ", there was a little girl named Lily. She loved to play outside in the park. "
                   "One day, she saw a big, red ball.",
}

name = sys.argv[1]
directory = model(name)
heads, layers = config(directory)["num_attention_heads"], config(directory)["num_hidden_layers"]
base = ["--model", directory, "--prompt", "Once upon a time", "--max-tokens", "60"]

greedy = generate(*base, "--temperature", "0")
if name in EXPECTED:
    check(greedy["text"].startswith(EXPECTED[name]), f"the text was {greedy['text']!r}")
sampled = generate(*base, "--temperature", "0.9", "--top-p", "0.95", "--seed", "7")
check(sampled["token_ids"] != greedy["token_ids"], "sampling changed nothing")

layouts = [(2, 1, []), (4, 1, []), (3, 1, []), (heads, 1, []), (1, layers, []),
           (2, 2, ["--sequence-parallel"]), (3, 1, ["--sequence-parallel"])]
for tp, pp, more in layouts:
    flags = ["--tp", str(tp), "--pp", str(pp), *more]
    found = generate(*base, "--temperature", "0.9", "--top-p", "0.95", "--seed", "7", *flags,
                     ranks=tp * pp)
    check_equal(found["token_ids"], sampled["token_ids"], f"sampled ids of {' '.join(flags)}")
    found = generate(*base, "--temperature", "0", *flags, ranks=tp * pp)
    check_equal(found["token_ids"], greedy["token_ids"], f"greedy ids of {' '.join(flags)}")
    check_equal(found["text"], greedy["text"], f"the text of {' '.join(flags)}")
    print(f"{' '.join(flags)}: the same {len(found['token_ids'])} ids")
