#!/usr/bin/env python3
"""What goes wrong with a GPU, on the emulated one: a model that does not fit, a device that falls off.

usage: gpu_faults.py, with $TRIREME_BINARY the emulated build
"""
import json
import pathlib
import re
import tempfile

from harness import BINARY, Lines, Server, check, check_equal, model, run

# Refused before anything is loaded, with the numbers and what would do.
refused = run([BINARY, "bench", "engine", "--shape", "llama3-8b", "--dtype", "bf16",
               "--activations", "bf16", "--device", "cuda", "--threads", "1"], code=1,
              env={"TRIREME_EMULATED_BYTES": str(12 << 30)}).stderr
check(re.fullmatch(
    r"trireme: a rank needs 15\.\d\d GiB of its device \(14\.96 GiB weights, 0\.\d\d GiB for a step, "
    r"0\.25 GiB for 2048 tokens of KV cache\), but 11\.\d\d GiB are free; the smallest layout that "
    r"fits such devices is --tp 2 --pp 1\n", refused), refused)
print(refused, end="")

flags = ["--model", model("austen"), "--dtype", "f32", "--kv-cache-bytes", "4M", "--tp", "2"]
request = ["--prompt", "It is a truth", "--max-tokens", "60", "--ignore-eos", "--temperature", "0.8",
           "--seed", "3", "--json"]
with tempfile.TemporaryDirectory() as folder:
    loss = pathlib.Path(folder) / "loss"
    server = Server(*flags, "--device", "cuda", env={"TRIREME_EMULATED_LOSS": str(loss)})
    expected = json.loads(run(server.client(*request)).stdout)["token_ids"]
    before = server.stats()["requests"]
    client = Lines(server.client(*request))
    server.await_stats(
        lambda s: s["requests"]["completion_tokens"] > before["completion_tokens"] + 3,
        "the stream under way")
    loss.touch()
    line = server.wait_for_log("cudaErrorIllegalAddress")
    check(re.search(r"rank [01] on \S+: CUDA: .+: an illegal memory access was encountered", line),
          line)
    print(line)
    check_equal(json.loads(client.wait()[0])["token_ids"], expected, "ids over the loss of a device")
    after = server.stats()["requests"]
    check_equal(after["replicas_lost"], before["replicas_lost"] + 1, "replicas lost")
    check_equal(after["replayed"], before["replayed"] + 1, "requests replayed")
    server.stop()
print("the request went on: the same ids")
