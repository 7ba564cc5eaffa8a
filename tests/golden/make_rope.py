"""Writes rope.json: rotary frequencies and angles of Hugging Face transformers (5.x), CPU, float32.

    pip install torch transformers
    python tests/golden/make_rope.py

Each position is asked for alone, so that `dynamic` uses the frequencies of a sequence ending there.
"""

import json
import pathlib

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

POSITIONS = [0, 1, 17, 255, 256, 2048, 5000, 40000]

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}

# name, head_dim, max_position_embeddings, rope_theta, rope_scaling
CASES = [
    ("default", 16, 2048, 10000.0, None),
    ("default wide", 128, 8192, 500000.0, None),
    ("default odd theta", 10, 2048, 12345.67, None),
    ("linear", 16, 2048, 10000.0, {"type": "linear", "factor": 2.5}),
    ("dynamic", 16, 256, 10000.0, {"type": "dynamic", "factor": 2.0}),
    ("dynamic odd factor", 32, 2048, 10000.0, {"rope_type": "dynamic", "factor": 3.7}),
    ("llama3", 64, 131072, 500000.0, LLAMA3),
    ("llama3 factor 32", 32, 131072, 500000.0, LLAMA3 | {"factor": 32.0}),
    ("llama3 short original", 32, 4096, 10000.0,
     LLAMA3 | {"original_max_position_embeddings": 256, "low_freq_factor": 1.5}),
    ("yarn", 32, 8192, 10000.0, YARN),
    ("yarn attention_factor", 32, 8192, 10000.0, YARN | {"attention_factor": 1.25}),
    ("yarn mscale", 32, 8192, 10000.0, YARN | {"mscale": 0.707, "mscale_all_dim": 0.9}),
    ("yarn mscale alone", 32, 8192, 10000.0, YARN | {"mscale": 0.707}),
    ("yarn betas", 32, 8192, 1000000.0, YARN | {"beta_fast": 64, "beta_slow": 2}),
    ("yarn not truncated", 32, 8192, 10000.0, YARN | {"truncate": False}),
    ("yarn narrow", 8, 512, 10000.0, YARN | {"original_max_position_embeddings": 64}),
    ("yarn ramp of no width", 16, 512, 10000.0, YARN | {"original_max_position_embeddings": 6}),
    ("yarn ramp reversed", 64, 512, 10000.0, YARN | {"original_max_position_embeddings": 4}),
    ("yarn factor null", 32, 8192, 10000.0, YARN | {"factor": None}),
    ("yarn without original", 16, 2048, 10000.0, {"rope_type": "yarn", "factor": 8.0}),
]


def short(tensor):
    """Nine digits tell every float32 apart."""
    return [float(f"{value:.9g}") for value in tensor.tolist()]


def make(name, head_dim, max_positions, theta, scaling):
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4 * head_dim,
        "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 8,
        "head_dim": head_dim, "max_position_embeddings": max_positions, "rope_theta": theta,
        "rope_scaling": scaling, "eos_token_id": None, "bos_token_id": None,
    }
    x = torch.zeros(1, dtype=torch.float32)
    half = head_dim // 2
    cos, sin = [], []
    for position in POSITIONS:
        rope = LlamaRotaryEmbedding(LlamaConfig(**json.loads(json.dumps(config))))
        c, s = rope(x, torch.tensor([[position]]))
        cos.append(short(c[0, 0, :half]))
        sin.append(short(s[0, 0, :half]))
    rope = LlamaRotaryEmbedding(LlamaConfig(**json.loads(json.dumps(config))))
    return {"name": name, "config": config, "inv_freq": short(rope.inv_freq),
            "attention_scaling": float(rope.attention_scaling), "positions": POSITIONS,
            "cos": cos, "sin": sin}


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(__file__).with_name("rope.json")
    lines = [json.dumps(make(*case), separators=(",", ":")) for case in CASES]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
