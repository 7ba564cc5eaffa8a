#!/usr/bin/env python3
"""The CUDA backend on the emulated device gives the CPU's ids, and serves.

usage: emulated.py MODEL [every], with $TRIREME_BINARY the emulated build; `every`: more layouts
"""
import sys

from harness import BINARY, Server, check, check_equal, config, generate, model, run

directory = model(sys.argv[1])
heads, layers = config(directory)["num_attention_heads"], config(directory)["num_hidden_layers"]
model_flags = ["--model", directory, "--dtype", "f32", "--kv-cache-bytes", "4M"]
base = [*model_flags, "--prompt", "Once upon a time", "--max-tokens", "12"]
kinds = {"greedy": ["--temperature", "0"],
         "sampled": ["--temperature", "0.9", "--top-p", "0.95", "--seed", "7"]}
expected = {kind: generate(*base, *flags, "--device", "cpu")["token_ids"]
            for kind, flags in kinds.items()}

layouts = [(1, 1, []), (2, 2, ["--sequence-parallel"])]
if "every" in sys.argv:
    layouts += [(2, 1, []), (4, 1, []), (3, 1, []), (heads, 1, []), (1, layers, [])]
for tp, pp, more in layouts:
    layout = ["--tp", str(tp), "--pp", str(pp), *more]
    for kind, flags in kinds.items():
        found = generate(*base, *flags, "--device", "cuda", *layout, ranks=tp * pp)
        check_equal(found["token_ids"], expected[kind], f"{kind} ids of {' '.join(layout)}")
    print(f"{' '.join(layout)}: the same ids")

server = Server(*model_flags, "--tp", "2", "--pp", "2", "--device", "cuda")
found = server.generate("--prompt", "Once upon a time", "--max-tokens", "12", *kinds["sampled"])
check_equal(found["token_ids"], expected["sampled"], "sampled ids of a server of tp 2 x pp 2")
server.stop()
print("served: the same ids")

none = {"TRIREME_EMULATED_DEVICES": "0"}
refused = run([BINARY, "generate", *base, "--device", "cuda"], code=1, env=none).stderr
check_equal(refused, "trireme: --device cuda: no CUDA device: no CUDA-capable device "
            "is detected; install the driver, or use --device cpu\n", "the refusal without a device")
found = generate(*base, *kinds["greedy"], "--device", "auto", env=none)
check_equal(found["token_ids"], expected["greedy"], "ids of --device auto without a device")
small = {"TRIREME_EMULATED_BYTES": "1000000"}
failed = run([BINARY, "generate", *base, "--device", "cuda"], code=1, env=small).stderr
check("rank 0 on " in failed and "CUDA: cudaMalloc of " in failed, failed)
check("out of memory (cudaErrorMemoryAllocation)" in failed, failed)
