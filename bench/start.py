#!/usr/bin/env python3
"""Time from start to first token, on a checkpoint of TinyLlama 1.1B's shape (2.2 GB of bf16).

    bench/start.py [--trireme build/trireme] [--runs 3] [--folder DIR] [-- generate's flags]

Writes the checkpoint once (random weights; tiled, the values do not matter for time), reads it
once so that it is in the page cache, then prints the wall time of each run of
`trireme generate --max-tokens 1`, and beside it the time of reading the file with `cat`.
"""
import argparse
import array
import json
import os
import random
import struct
import subprocess
import sys
import time

SHAPE = dict(hidden=2048, layers=22, heads=32, kv_heads=4, ffn=5632, vocab=32000, head_dim=64)


def tensors():
    s = SHAPE
    q, kv = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    yield "model.embed_tokens.weight", [s["vocab"], s["hidden"]]
    for i in range(s["layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", [s["hidden"]]
        yield p + "post_attention_layernorm.weight", [s["hidden"]]
        yield p + "self_attn.q_proj.weight", [q, s["hidden"]]
        yield p + "self_attn.k_proj.weight", [kv, s["hidden"]]
        yield p + "self_attn.v_proj.weight", [kv, s["hidden"]]
        yield p + "self_attn.o_proj.weight", [s["hidden"], q]
        yield p + "mlp.gate_proj.weight", [s["ffn"], s["hidden"]]
        yield p + "mlp.up_proj.weight", [s["ffn"], s["hidden"]]
        yield p + "mlp.down_proj.weight", [s["hidden"], s["ffn"]]
    yield "model.norm.weight", [s["hidden"]]
    yield "lm_head.weight", [s["vocab"], s["hidden"]]


def size(shape):
    n = 2
    for d in shape:
        n *= d
    return n


def write_checkpoint(folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.safetensors")
    header, offset = {}, 0
    for name, shape in tensors():
        header[name] = {"dtype": "BF16", "shape": shape,
                        "data_offsets": [offset, offset + size(shape)]}
        offset += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if not os.path.exists(path) or os.path.getsize(path) != 8 + len(text) + offset:
        draw = random.Random(1)
        # bf16 of about +-0.02: the exponent of 2^-6, random sign and mantissa
        block = array.array("H", [0x3C80 | draw.getrandbits(7) | draw.getrandbits(1) << 15
                                  for _ in range(1 << 19)]).tobytes()
        with open(path, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for left in range(offset, 0, -len(block)):
                out.write(block[:min(left, len(block))])
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", torch_dtype="bfloat16",
                  hidden_size=SHAPE["hidden"], num_hidden_layers=SHAPE["layers"],
                  num_attention_heads=SHAPE["heads"], num_key_value_heads=SHAPE["kv_heads"],
                  intermediate_size=SHAPE["ffn"], vocab_size=SHAPE["vocab"],
                  max_position_embeddings=2048, rms_norm_eps=1e-5, hidden_act="silu",
                  tie_word_embeddings=False, eos_token_id=2)
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out, indent=1)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trireme", default="build/trireme")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", default="/tmp/trireme-bench/tinyllama-1.1b")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    path = write_checkpoint(args.folder)
    for i in range(2):
        start = time.monotonic()
        subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    print(f"cat {os.path.getsize(path) / 1e9:.2f} GB: {time.monotonic() - start:.2f} s")
    for i in range(args.runs):
        start = time.monotonic()
        done = subprocess.run([args.trireme, "generate", "--model", args.folder, "--prompt-ids",
                               "1,2,3", "--max-tokens", "1", "--ignore-eos", "--json", *args.flags],
                              stdout=subprocess.PIPE, check=True)
        wall = time.monotonic() - start
        assert len(json.loads(done.stdout)["token_ids"]) == 1
        print(f"start to exit after one token, run {i + 1}: {wall:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
