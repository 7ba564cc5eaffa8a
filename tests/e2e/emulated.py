#!/usr/bin/env python3
"""The CUDA backend on the emulated device gives the CPU's ids, and serves.

usage: emulated.py MODEL [every], with $TRIREME_BINARY the emulated build; `every`: more layouts
"""
import json
import pathlib
import re
import sys
import tempfile

from harness import (BINARY, SOURCE, Server, check, check_equal, check_no_leftovers, config, generate,
                     model, mpirun, run)

directory = model(sys.argv[1])
heads, layers = config(directory)["num_attention_heads"], config(directory)["num_hidden_layers"]
model_flags = ["--model", directory, "--dtype", "f32", "--kv-cache-bytes", "4M"]
base = [*model_flags, "--prompt", "Once upon a time", "--max-tokens", "12"]
kinds = {"greedy": ["--temperature", "0"],
         "sampled": ["--temperature", "0.9", "--top-p", "0.95", "--seed", "7"]}
expected = {kind: generate(*base, *flags, "--device", "cpu")["token_ids"]
            for kind, flags in kinds.items()}

# Each rank has a device of its own, for NCCL; or all share one, and exchange by way of the host.
one_each, shared = {"TRIREME_EMULATED_DEVICES": "8"}, {"TRIREME_EMULATED_DEVICES": "1"}
layouts = [(1, 1, [], shared), (2, 2, ["--sequence-parallel"], shared),
           (2, 2, ["--sequence-parallel"], one_each)]
if "every" in sys.argv:
    layouts += [(tp, 1, [], one_each) for tp in (2, 3, 4, heads)]
    layouts += [(1, layers, [], one_each), (3, 1, ["--exact"], one_each),
                (2, 1, ["--comm", "staged"], one_each)]
for tp, pp, more, env in layouts:
    layout = ["--tp", str(tp), "--pp", str(pp), *more]
    for kind, flags in kinds.items():
        found = generate(*base, *flags, "--device", "cuda", *layout, ranks=tp * pp, env=env)
        check_equal(found["token_ids"], expected[kind], f"{kind} ids of {' '.join(layout)}")
    print(f"{' '.join(layout)}, {env}: the same ids")

# A sliding window, shorter than the prompt; and a head size that there are no kernels for. These
# models have no tokenizer.
logits = SOURCE / "tests" / "golden" / "logits"
windowed = ["--model", str(logits / "mistral"), "--dtype", "f32", "--kv-cache-bytes", "4M",
            "--prompt-ids", ",".join(str(i * 7 % 96) for i in range(60)), "--max-tokens", "20",
            *kinds["greedy"]]
ids = generate(*windowed, "--device", "cpu")["token_ids"]
for tp, more in [(1, []), (1, ["--exact"]), (2, ["--max-batch-tokens", "16"])]:
    found = generate(*windowed, "--device", "cuda", "--tp", str(tp), *more, ranks=tp, env=one_each)
    check_equal(found["token_ids"], ids, f"ids with a window, tp {tp} {' '.join(more)}")
refused = run([BINARY, "generate", "--model", str(logits / "heads_12_3"), "--prompt-ids", "1,2",
               "--device", "cuda"], code=1).stderr
check_equal(refused, "trireme: the model has a head_dim of 4; on CUDA devices it has to be even and "
            "from 8 to 256; use --device cpu\n", "the refusal of a head size")

# Which of the two, and why, is said once.
for flags, env, said in [
        ([], one_each, "the ranks' devices exchange tensors by NCCL 2."),
        ([], shared, "exchange tensors by way of the host: ranks 0 and 1 share device 0000:00:00.0"),
        (["--comm", "staged"], one_each, "exchange tensors by way of the host: --comm staged")]:
    log = run(mpirun(2, "generate", *base, "--tp", "2", "--device", "cuda", "--log-level", "info",
                     *flags), env=env).stderr
    check_equal(log.count("exchange tensors"), 1, f"lines on the exchange in\n{log}")
    check(said in log, f"{log}lacks {said}")
for device, env, why in [("cuda", shared, "ranks 0 and 1 share device 0000:00:00.0 of "),
                         ("cpu", one_each, "the device is the CPU")]:
    refused = run(mpirun(2, "generate", *base, "--tp", "2", "--device", device, "--comm", "nccl"),
                  code=1, env=env).stderr
    check(f"trireme: --comm nccl: {why}" in refused, refused)

# NCCL fails on rank 1 in a step: a line names rank, host and collective; nobody is left.
failed = run(mpirun(2, "generate", *base, "--tp", "2", "--device", "cuda"), code=1,
             env=one_each | {"TRIREME_EMULATED_NCCL": "error:1:40"}).stderr
check(re.search(r"rank 1 on \S+: NCCL: unhandled system error; enqueued last: \w+ \d+ of "
                r"ranks 0,1 \(plan \d+: sequences 1, tokens \d+\)\n", failed), failed)
check_no_leftovers()

# The bench of exchanges: every communicator, and bus bandwidth as nccl-tests define it.
with tempfile.TemporaryDirectory() as folder:
    run(mpirun(3, "bench", "comm", "--rounds", "1", "--max-bytes", "16K", "--json-file",
               f"{folder}/comm.json"), env=one_each)
    measured = json.loads(pathlib.Path(f"{folder}/comm.json").read_text())["communicators"]
check_equal([each["communicator"].partition(" 2.")[0] for each in measured],
            ["host memory: shared memory", "CUDA: by way of the host", "CUDA: NCCL", "CUDA: NCCL"],
            "communicators measured")
factors = {"AllReduce": 4 / 3, "AllReduce to bf16": 4 / 3, "ReduceScatter": 2 / 3,
           "AllGather": 2 / 3, "Send + Recv, and back": 1}
for each in measured:
    verbs = {verb["verb"]: verb for verb in each["verbs"]}
    for name, factor in factors.items():
        verb = verbs[name]
        gbps = verb["bytes"] / verb["median_seconds"] * 1e-9
        check(abs(verb["algorithm_gbps"] / gbps - 1) < 1e-6, f"algorithm bandwidth of {verb}")
        check(abs(verb["bus_gbps"] / gbps / factor - 1) < 1e-6, f"bus bandwidth of {verb}")

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
