"""Makes the logits goldens: what Hugging Face transformers computes, in f32.

    python tests/golden/make_logits.py            # writes tests/golden/logits/
    python tests/golden/make_logits.py --check    # compares with what is committed, writes nothing

Every case is a folder with a checkpoint in the Hugging Face layout and logits.safetensors:
    ids_0     [n0]    i32   a short sequence
    logits_0  [n0,V]  f32   at all of its positions
    ids_1     [n1]    i32   a longer one
    logits_1  [8,V]   f32   at its last 8 positions
The tiny checkpoints have random weights. They are made once and then kept; delete a folder to have
it made anew. The bundled model is read from examples/models/austen, so logits/austen holds no
checkpoint, and greedy.json beside its logits: prompts and their greedy continuations.

RoPE "dynamic": transformers takes the frequencies of a forward pass from the length L that the
sequence has in that pass: for L > max_position_embeddings, ALL positions of a full forward, the
early ones too, use the NTK base for L. A paged cache cannot follow: rows already written would have
to be rotated again. Trireme's rule is that a token's rotation never changes once written. Up to
max_position_embeddings both are plain RoPE, and sequences 0 and 1 of the case stay below it.
Beyond, the case holds as optional tensors a sequence longer than max_position_embeddings:
    ids_2          [n2]    i32
    logits_2_full  [8,V]   f32   last 8 positions of one full forward (every position at L = n2)
    logits_2_step  [8,V]   f32   last 8 positions when transformers is fed token by token through
                                 its cache: the token at position p is rotated for L = p + 1, once
The last one depends on positions alone, hence on no chunking, and agrees with Trireme's rule.
"""

import argparse
import copy
import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

GOLDEN = os.path.dirname(os.path.abspath(__file__))
LOGITS = os.path.join(GOLDEN, "logits")
AUSTEN = os.path.join(GOLDEN, "../../examples/models/austen")
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16

# What a case leaves out, config.json has from here.
BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

OMIT = object()  # the key is absent from config.json: its default holds


class Case:
    def __init__(self, name, dtype=BF16, n_shards=1, as_written_by_hf=False, **config):
        self.name, self.dtype, self.n_shards = name, dtype, n_shards
        self.as_written_by_hf = as_written_by_hf
        self.config = {k: v for k, v in {**BASE, **config}.items() if v is not OMIT}
        dtype_name = str(dtype).removeprefix("torch.")
        self.config["torch_dtype"] = dtype_name
        self.folder = os.path.join(LOGITS, name)


CASES = [
    # Multi-head attention, as in the first LLaMA: keys that came later are absent.
    Case(
        "mha_f16",
        F16,
        num_key_value_heads=OMIT,
        rope_theta=OMIT,
        rms_norm_eps=OMIT,
        tie_word_embeddings=OMIT,
        attention_bias=OMIT,
        mlp_bias=OMIT,
    ),
    Case("gqa_f32", F32, intermediate_size=40, vocab_size=67, rope_theta=500000.0),
    Case("gqa_8_2_eps", num_attention_heads=8, rms_norm_eps=3.1e-2, intermediate_size=61),
    Case("mqa", num_key_value_heads=1, tie_word_embeddings=False),
    # N*D = 64 is not H, and H/N = 10 is not the head size.
    Case(
        "head_dim",
        hidden_size=40,
        head_dim=16,
        intermediate_size=44,
        vocab_size=101,
        tie_word_embeddings=False,
    ),
    Case("biases", attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    Case("attention_bias", F16, attention_bias=True, num_attention_heads=8, num_key_value_heads=8),
    Case("mlp_bias", mlp_bias=True),
    Case(
        "heads_6_2_sharded",
        n_shards=3,
        hidden_size=48,
        num_attention_heads=6,
        num_hidden_layers=3,
        intermediate_size=30,
        tie_word_embeddings=False,
    ),
    Case(
        "heads_12_3",
        hidden_size=48,
        num_attention_heads=12,
        num_key_value_heads=3,
        intermediate_size=45,
        vocab_size=97,
    ),
    # "type" is the name that "rope_type" had before; configs with it are still around.
    Case("rope_linear", head_dim=16, rope_scaling={"type": "linear", "factor": 2.5}),
    Case(
        "rope_dynamic",
        head_dim=16,
        max_position_embeddings=80,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0},
    ),
    Case(
        "rope_llama3",
        head_dim=16,
        rope_theta=500.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    Case(
        "rope_yarn",
        head_dim=16,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    Case(
        "rope_yarn_explicit",
        head_dim=16,
        rope_theta=500.0,
        rope_scaling={
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "attention_factor": 1.3,
            "beta_fast": 2.0,
            "beta_slow": 0.25,
        },
    ),
    # The form that transformers 5 writes: rope_theta and the scaling inside "rope_parameters",
    # "dtype" for "torch_dtype".
    Case(
        "rope_yarn_mscale",
        as_written_by_hf=True,
        head_dim=16,
        rope_theta=700.0,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "mscale": 1.4,
            "mscale_all_dim": 0.6,
            "truncate": False,
        },
    ),
    # A window that begins within a page, and N*D = 64 that is not H; the keys of a MistralConfig.
    Case(
        "mistral",
        as_written_by_hf=True,
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        hidden_size=40,
        head_dim=16,
        sliding_window=21,
        attention_bias=OMIT,
        mlp_bias=OMIT,
        tie_word_embeddings=False,
    ),
]


def config_of(values):
    values = copy.deepcopy(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def write_json(path, value):
    with open(path, "w") as f:
        f.write(json.dumps(value, indent=2) + "\n")


def random_weight(name, shape):
    """Large enough that attention is far from uniform, so that a wrong rotation shows."""
    if "norm" in name:
        return 1 + 0.3 * torch.randn(shape)
    if name.endswith("bias"):
        return 0.4 * torch.randn(shape)
    if "embed" in name:
        return 0.5 * torch.randn(shape)
    gain = 2.0 if "q_proj" in name or "k_proj" in name or "lm_head" in name else 1.0
    return gain * torch.randn(shape) / shape[1] ** 0.5


def make_checkpoint(case, seed):
    os.makedirs(case.folder)
    config = config_of(case.config)
    if case.as_written_by_hf:
        config.save_pretrained(case.folder)
    else:
        write_json(os.path.join(case.folder, "config.json"), case.config)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    tensors = {n: random_weight(n, p.shape).to(case.dtype) for n, p in model.named_parameters()}
    if case.n_shards == 1:
        save(tensors, os.path.join(case.folder, "model.safetensors"), {"format": "pt"})
        return
    weight_map, names = {}, list(tensors)
    for i in range(case.n_shards):
        file = f"model-{i + 1:05d}-of-{case.n_shards:05d}.safetensors"
        part = names[i * len(names) // case.n_shards : (i + 1) * len(names) // case.n_shards]
        save({n: tensors[n] for n in part}, os.path.join(case.folder, file), {"format": "pt"})
        weight_map.update({n: file for n in part})
    n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    write_json(os.path.join(case.folder, "model.safetensors.index.json"), index)


def save(tensors, path, metadata=None):
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata)
    os.chmod(path, 0o644)


def load_model(folder, config=None):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=F32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()


@torch.no_grad()
def full_forward(model, ids):  # [n] -> [n,V]
    return model(ids[None].long(), use_cache=False).logits[0]


@torch.no_grad()
def step_by_step(model, ids):
    cache, rows = None, []
    for token in ids:
        result = model(token.view(1, 1).long(), past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        rows.append(result.logits[0, 0])
    return torch.stack(rows)


def golden_of(folder, ids_0, ids_1):
    model = load_model(folder)
    return {
        "ids_0": ids_0,
        "logits_0": full_forward(model, ids_0),
        "ids_1": ids_1,
        "logits_1": full_forward(model, ids_1)[-8:],
    }


def distance(a, b):
    """Largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


OPTIONAL = {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}


def check_scaling_shows(case, tensors):
    """Without the scaling, or without one of its optional keys, the logits must be others."""
    scaling, others = case.config["rope_scaling"], [None]
    for key in scaling.keys() & OPTIONAL:
        others.append({k: v for k, v in scaling.items() if k != key})
    ids, logits = (tensors[k] for k in ("ids_1", "logits_1"))
    if "ids_2" in tensors:
        ids, logits = (tensors[k] for k in ("ids_2", "logits_2_full"))
    for other in others:
        config = config_of({**case.config, "rope_scaling": other})
        apart = distance(full_forward(load_model(case.folder, config), ids)[-8:], logits)
        assert apart > 5e-3, (case.name, other, apart)


def check_window_shows(case, tensors):
    """Without the window, or with one token more or less, the logits must be others; in steps of one
    token they are the same."""
    ids, logits = (tensors[k] for k in ("ids_1", "logits_1"))
    for other in (None, case.config["sliding_window"] - 1, case.config["sliding_window"] + 1):
        config = config_of({**case.config, "sliding_window": other})
        apart = distance(full_forward(load_model(case.folder, config), ids)[-8:], logits)
        assert apart > 5e-3, (case.name, other, apart)
    apart = distance(step_by_step(load_model(case.folder), ids)[-8:], logits)
    assert apart < 1e-5, (case.name, apart)


def make_tiny(case, seed):
    if not os.path.exists(case.folder):
        make_checkpoint(case, seed)
    generator = torch.Generator().manual_seed(1000 + seed)

    def random_ids(n):
        return torch.randint(case.config["vocab_size"], (n,), generator=generator).int()

    tensors = golden_of(case.folder, random_ids(20), random_ids(70))
    if case.name == "rope_dynamic":
        ids = random_ids(120)
        tensors["ids_2"] = ids
        tensors["logits_2_full"] = full_forward(load_model(case.folder), ids)[-8:]
        tensors["logits_2_step"] = step_by_step(load_model(case.folder), ids)[-8:]
        apart = distance(tensors["logits_2_full"], tensors["logits_2_step"])
        assert apart > 1e-2, apart
    if "rope_scaling" in case.config:
        check_scaling_shows(case, tensors)
    if "sliding_window" in case.config:
        check_window_shows(case, tensors)
    return tensors


PROMPTS = [
    "It is a truth universally acknowledged, that",
    "Emma was",
    "“My dear Mr. Bennet,” said his lady to him one day, 1815 — naïve café",
]
LONG = (
    "The evening altogether passed off pleasantly to the whole family. Mrs. Bennet had seen her "
    "eldest daughter much admired by the Netherfield party. Mr. Bingley had danced with her twice, "
    "and she had been distinguished by his sisters. Jane was as much gratified by this as her "
    "mother could be, though in a quieter way."
)


def greedy(model, prompt_ids, n_tokens):
    """The continuation, and the smallest lead of a chosen logit over the next best."""
    ids, lead = prompt_ids, float("inf")
    for _ in range(n_tokens):
        best = full_forward(model, ids)[-1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids = torch.cat([ids, best.indices[:1].int()])
    return ids[len(prompt_ids) :], lead


def make_austen():
    tokenizer = AutoTokenizer.from_pretrained(AUSTEN)

    def encode(text):  # the tokenizer itself puts <|endoftext|> in front
        return torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int32)

    long_ids = encode(LONG)
    tensors = golden_of(AUSTEN, long_ids[:20].clone(), long_ids[:72])
    model, continuations = load_model(AUSTEN), []
    for prompt in PROMPTS:
        prompt_ids = encode(prompt)
        ids, lead = greedy(model, prompt_ids, 30)
        text = tokenizer.decode(ids)
        print(f"    {prompt!r} -> {text!r} (smallest lead {lead:.4f})")
        assert lead > 1e-3, "too near a tie for a golden: choose another prompt"
        continuations.append(
            {
                "prompt": prompt,
                "prompt_ids": prompt_ids.tolist(),
                "ids": ids.tolist(),
                "text": text,
            }
        )
    return tensors, continuations


def finish(name, tensors, check):
    """Writes the case's tensors, or compares them with the committed ones."""
    path = os.path.join(LOGITS, name, "logits.safetensors")
    if not check:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save(tensors, path)
        print(f"{name}: {os.path.getsize(path)} bytes")
        return
    committed = load_file(path)
    assert committed.keys() == tensors.keys(), name
    for key, value in tensors.items():
        if key.startswith("ids"):
            assert torch.equal(committed[key], value), (name, key)
    worst = max(distance(tensors[k], committed[k]) for k in tensors if k.startswith("logits"))
    print(f"{name}: largest relative difference {worst:.1e}")
    assert worst < 1e-5, name


def main():
    parser = argparse.ArgumentParser(description="Make the logits goldens.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for i, case in enumerate(CASES):
        if args.check and not os.path.exists(case.folder):
            sys.exit(f"{case.name} is not in {LOGITS}: run without --check first")
        finish(case.name, make_tiny(case, seed=i), args.check)
    tensors, continuations = make_austen()
    finish("austen", tensors, args.check)
    path = os.path.join(LOGITS, "austen/greedy.json")
    if not args.check:
        write_json(path, continuations)
    else:
        with open(path) as f:
            assert json.load(f) == continuations, path


if __name__ == "__main__":
    main()
