"""Trains the bundled model: a small LLaMA on six novels by Jane Austen.

    python train.py --deb r-cran-janeaustenr_1.0.0-1_all.deb --out ../models/austen --minutes 75

The text comes from a Debian package, the tokenizer is a byte-level BPE trained here, and the model
is written in the Hugging Face layout (config.json, model.safetensors in bf16, tokenizer.json).
The folder is rewritten whenever the held-out loss improves, so the run may be stopped at any time.
See README.md for the set-up.

Shapes: B windows, T tokens, H hidden, N heads, K KV heads, D head size, F FFN, V vocabulary.
"""

import argparse
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import tempfile
import time
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

EOT = "<|endoftext|>"  # both bos (a text starts) and eos (a chapter ends); id 0
EOT_ID = 0

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": EOT_ID,
    "eos_token_id": EOT_ID,
    "torch_dtype": "bfloat16",
}

# ---------------------------------------------------------------------------------------- text


def read_novels(deb):
    """The novels of r-cran-janeaustenr, each a list of lines.

    R keeps them in Rdata.rdb: records of a 4-byte big-endian size and a zlib stream. A stream is an
    R serialization (XDR, version 3) of one character vector: a header with the native encoding,
    then per string its flags, its length and its bytes. A last record without strings is skipped.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
        path = os.path.join(folder, "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
        with open(path, "rb") as f:
            rest = f.read()
    novels = []
    while rest:
        stream = zlib.decompressobj()
        data = stream.decompress(rest[4:])
        rest = stream.unused_data
        n_encoding = struct.unpack_from(">i", data, 14)[0]
        at = 18 + n_encoding
        kind, n_lines = struct.unpack_from(">ii", data, at)
        assert data[:2] == b"X\n" and kind & 0xFF == 16, "not a character vector"
        at += 8
        lines = []
        for _ in range(n_lines):
            n_bytes = struct.unpack_from(">i", data, at + 4)[0]
            lines.append(data[at + 8 : at + 8 + n_bytes].decode("utf-8"))
            at += 8 + n_bytes
        novels.append(lines)
    return novels


HEADING = re.compile(r"^(chapter|volume|letter)\s+([ivxlc]+|\d+)\.?$|^finis$|^the end$", re.I)


def chapters(lines):
    """The novel as chapters, each a list of paragraphs on one line; title pages are dropped."""
    result = [[]]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        block = " ".join(block.split())
        if HEADING.match(block):
            result.append([])
        elif block:
            block = block.replace("_", "").replace("--", "—").replace("—-", "—")
            result[-1].append(block)
    return [c for c in result[1:] if sum(map(len, c)) > 500]


def train_tokenizer(texts, vocab_size):
    """Byte-level BPE that splits as Llama 3 does and puts one EOT in front of every text."""
    llama3 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(llama3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{EOT} $A", pair=f"{EOT} $A {EOT} $B:1", special_tokens=[(EOT, EOT_ID)]
    )
    return tokenizer


class Text:
    """Token ids of many chapters, each closed by EOT, and where their paragraphs start."""

    def __init__(self, tokenizer, chapter_list):
        ids, starts = [], []
        for chapter in chapter_list:
            # A paragraph's end is a split of the pre-tokenizer: piecewise equals at once.
            paragraphs = [p + "\n\n" for p in chapter]
            for e in tokenizer.encode_batch(paragraphs, add_special_tokens=False):
                starts.append(len(ids))
                ids.extend(e.ids)
            ids.append(EOT_ID)
        self.ids = torch.tensor(ids, dtype=torch.int64)
        self.starts = np.array(starts)
        self.n_chars = sum(len(p) + 2 for c in chapter_list for p in c)

    def batch(self, rng, n_windows, n_tokens):
        """Inputs and targets [B,T]: half the windows are EOT and a paragraph's start, half are
        cut anywhere, so that the insides of long paragraphs are seen too."""
        x, y = [], []
        for i in range(n_windows):
            if i % 2 == 0:
                at = min(rng.choice(self.starts), len(self.ids) - n_tokens)
                window = F.pad(self.ids[at : at + n_tokens], (1, 0), value=EOT_ID)
            else:
                at = rng.integers(len(self.ids) - n_tokens)
                window = self.ids[at : at + n_tokens + 1]
            x.append(window[:-1])
            y.append(window[1:])
        return torch.stack(x), torch.stack(y)


# --------------------------------------------------------------------------------------- model


def rope_table(config):
    """cos and sin [max positions, D], each angle twice (the two halves of a head)."""
    d = config["head_dim"]
    freq = config["rope_theta"] ** (-torch.arange(0, d, 2) / d)
    angle = torch.outer(torch.arange(config["max_position_embeddings"]), freq)
    return torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)


def rotate(x, cos, sin):  # [B,N,T,D]
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class RmsNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, d = c["hidden_size"], c["head_dim"]
        self.n, self.k, self.d = c["num_attention_heads"], c["num_key_value_heads"], d
        self.q_proj = nn.Linear(h, self.n * d, bias=False)
        self.k_proj = nn.Linear(h, self.k * d, bias=False)
        self.v_proj = nn.Linear(h, self.k * d, bias=False)
        self.o_proj = nn.Linear(self.n * d, h, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q = rotate(self.q_proj(x).view(b, t, self.n, self.d).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, t, self.k, self.d).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.k, self.d).transpose(1, 2)
        k, v = (z.repeat_interleave(self.n // self.k, 1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, f = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = nn.Linear(h, f, bias=False)
        self.up_proj = nn.Linear(h, f, bias=False)
        self.down_proj = nn.Linear(f, h, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.input_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = Mlp(c)
        self.dropout = dropout

    def forward(self, x, cos, sin):
        y = self.self_attn(self.input_layernorm(x), cos, sin)
        x = x + F.dropout(y, self.dropout, self.training)
        y = self.mlp(self.post_attention_layernorm(x))
        return x + F.dropout(y, self.dropout, self.training)


class Llama(nn.Module):
    """Parameters carry the names that Hugging Face's LlamaModel gives them."""

    def __init__(self, c, dropout):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c, dropout) for _ in range(c["num_hidden_layers"]))
        self.norm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.dropout = dropout
        cos, sin = rope_table(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 1 / math.sqrt(2 * c["num_hidden_layers"]) if into_residual else 1
                nn.init.normal_(p, std=c["initializer_range"] * scale)

    def forward(self, ids, targets):  # [B,T] -> mean cross entropy in nats
        t = ids.shape[1]
        x = F.dropout(self.embed_tokens(ids), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t])
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def held_out_loss(model, text, n_tokens=256):
    """Mean loss over all of `text`, in windows of EOT and n_tokens - 1 tokens."""
    model.eval()
    body = n_tokens - 1
    windows = text.ids[: len(text.ids) // body * body].view(-1, body)
    windows = F.pad(windows, (1, 0), value=EOT_ID)
    losses = [model(w[:, :-1], w[:, 1:]) * len(w) for w in windows.split(16)]
    model.train()
    return (sum(losses) / len(windows)).item()


# -------------------------------------------------------------------------------------- export


def export(out, weights, tokenizer, record):
    os.makedirs(out, exist_ok=True)

    def write_json(name, value):
        with open(os.path.join(out, name), "w") as f:
            f.write(json.dumps(value, indent=2) + "\n")

    tensors = {f"model.{name}": w.contiguous() for name, w in weights.items()}
    partial = os.path.join(out, "model.safetensors.partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    os.chmod(partial, 0o644)
    os.replace(partial, os.path.join(out, "model.safetensors"))
    tokenizer.save(os.path.join(out, "tokenizer.json"))
    write_json("config.json", CONFIG)
    write_json("generation_config.json", {"bos_token_id": EOT_ID, "eos_token_id": EOT_ID})
    write_json(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": EOT,
            "eos_token": EOT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"],
        },
    )
    write_json("training.json", record)


def main():
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--deb", required=True, help="r-cran-janeaustenr_*.deb")
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--minutes", type=float, default=75, help="the schedule's length")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=10**9, help="stop here, for a trial")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    # Every 20th chapter is held out, from the tokenizer too.
    all_chapters = [c for novel in read_novels(args.deb) for c in chapters(novel)]
    held_out = all_chapters[10::20]
    seen = [c for i, c in enumerate(all_chapters) if i % 20 != 10]
    tokenizer = train_tokenizer(("\n\n".join(c) for c in seen), CONFIG["vocab_size"])
    train, test = Text(tokenizer, seen), Text(tokenizer, held_out)
    n_chars_per_token = test.n_chars / len(test.ids)
    print(
        f"{len(seen)} chapters, {len(train.ids)} tokens; held out {len(held_out)} chapters, "
        f"{len(test.ids)} tokens, {n_chars_per_token:.2f} characters per token",
        flush=True,
    )

    model = Llama(CONFIG, args.dropout)
    n_params = sum(p.numel() for p in model.parameters())
    average = {k: v.clone() for k, v in model.state_dict().items()}
    probe = Llama(CONFIG, 0)  # evaluates the averaged weights as they are exported, in bf16
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    with open(args.deb, "rb") as f:
        deb_sha256 = hashlib.sha256(f.read()).hexdigest()

    best, begin, next_report, step, n_tokens_seen = math.inf, time.time(), 60, 0, 0
    while True:
        # The schedule runs by the clock: linear warm-up, then a cosine down to 2%. The last fifth
        # trains on windows of the full context.
        elapsed = time.time() - begin
        done = elapsed / (60 * args.minutes)
        if elapsed > next_report or done >= 1 or step >= args.max_steps:
            next_report = elapsed + 120
            weights = {k: v.bfloat16() for k, v in average.items()}
            probe.load_state_dict(weights)
            test_loss = held_out_loss(probe, test)
            record = {
                "source": os.path.basename(args.deb),
                "source_sha256": deb_sha256,
                "parameters": n_params,
                "steps": step,
                "tokens": n_tokens_seen,
                "minutes": round(elapsed / 60, 1),
                "held_out_loss_nats_per_token": round(test_loss, 4),
                "held_out_bits_per_character": round(
                    test_loss / math.log(2) / n_chars_per_token, 4
                ),
            }
            print(json.dumps(record), flush=True)
            if test_loss < best and step > 0:
                best = test_loss
                export(args.out, weights, tokenizer, record)
            if done >= 1 or step >= args.max_steps:
                break
        cosine = (1 + math.cos(math.pi * done)) / 2
        lr = args.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * cosine)
        for group in optimizer.param_groups:
            group["lr"] = lr
        n_windows, n_tokens = (8, 256) if done < 0.8 else (2, 1024)
        loss = model(*train.batch(rng, n_windows, n_tokens))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        n_tokens_seen += n_windows * n_tokens
        with torch.no_grad():
            keep = min(0.998, step / (step + 10))
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if step % 200 == 0:
            print(f"step {step} loss {loss.item():.3f} lr {lr:.5f} {elapsed:.0f} s", flush=True)


if __name__ == "__main__":
    main()
