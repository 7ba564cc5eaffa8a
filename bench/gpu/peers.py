#!/usr/bin/env python3
"""PyTorch + transformers on the shape that `trireme bench engine` measures: bf16, random weights,
eager with a static cache and under torch.compile. Each phase has a limit; what does not end within
it is said to be cut.

    bench/gpu/peers.py --json FILE [--seconds 300] [--device cuda] [--quick]

Writes what is known after every phase, so that stopping it loses nothing that was measured.
"""
import argparse
import contextlib
import inspect
import json
import pathlib
import signal
import sys
import time

LLAMA3_8B = dict(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
                 num_key_value_heads=8, intermediate_size=14336, vocab_size=128256,
                 max_position_embeddings=8192, rope_theta=500000.0, rms_norm_eps=1e-5)
TINY = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=176, vocab_size=512, max_position_embeddings=4096)
COMPILE_MODE = "reduce-overhead"  # with CUDA graphs


class Cut(Exception):
    pass


@contextlib.contextmanager
def limit(seconds):
    """Raises Cut in what takes longer, as soon as Python runs again."""
    def stop(*_):
        raise Cut
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Peer:
    def __init__(self, torch, transformers, device, shape):
        self.torch, self.transformers, self.device = torch, transformers, device
        config = transformers.LlamaConfig(**shape, tie_word_embeddings=False)
        config._attn_implementation = "sdpa"
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(device):
            self.model = transformers.LlamaForCausalLM(config).eval()
        torch.set_default_dtype(before)
        self.takes_position = "cache_position" in inspect.signature(self.model.forward).parameters

    def cache(self, batch, length):
        config, static = self.model.config, self.transformers.StaticCache
        try:
            return static(config=config, max_cache_len=length)
        except TypeError:  # before transformers 5
            return static(config=config, max_batch_size=batch, max_cache_len=length,
                          device=self.device, dtype=self.torch.bfloat16)

    def ids(self, batch, n):
        return self.torch.randint(0, self.model.config.vocab_size, (batch, n), device=self.device)

    def run(self, ids, cache, position):
        """The next ids."""
        more = {"cache_position": position} if self.takes_position else {}
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1,
                            **more).logits
        return logits[:, -1:].argmax(-1)

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def timed(self, run):
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def prefill(self, n, rounds=5):
        """Tokens per second of one prompt; the median, after one that does not count."""
        ids, position = self.ids(1, n), self.torch.arange(n, device=self.device)
        seconds = [self.timed(lambda: self.run(ids, self.cache(1, n), position))
                   for _ in range(rounds + 1)]
        return n / sorted(seconds[1:])[rounds // 2]

    def decode(self, batch, context, steps, compiled):
        """Tokens per second of all sequences together."""
        torch = self.torch
        warm_up = 4 if compiled else 2  # compiled: traced, recorded, replayed
        cache = self.cache(batch, context + warm_up + steps)
        position = torch.arange(context, device=self.device)
        ids = self.run(self.ids(batch, context), cache, position).clone()
        position = position[-1:].clone()
        step = self.run
        if compiled:
            torch._dynamo.reset()
            step = torch.compile(self.run, mode=COMPILE_MODE, dynamic=False)

        def run(n):
            for _ in range(n):
                position.add_(1)
                if compiled:
                    torch.compiler.cudagraph_mark_step_begin()
                ids.copy_(step(ids, cache, position))
        run(warm_up)
        return batch * steps / self.timed(lambda: run(steps))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny shape; no figure counts")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    found = {"phases": []}

    def save():
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2) + "\n")

    def unavailable(why):
        found["unavailable"] = why
        save()
        print(f"peer not available: {why}")
        sys.exit(0)

    try:
        import torch
        import transformers
    except ImportError as error:
        unavailable(f"{error} ({sys.executable})")
    if args.device == "cuda" and not torch.cuda.is_available():
        unavailable("PyTorch sees no GPU")
    found |= {"torch": torch.__version__, "transformers": transformers.__version__}
    context, prompt, steps = (1024, 4096, 64) if not args.quick else (16, 32, 4)
    peer = Peer(torch, transformers, args.device, TINY if args.quick else LLAMA3_8B)

    def phase(name, seconds, mode, batch, n, run):
        one = {"name": name, "mode": mode, "batch": batch, "context": n}
        seconds = min(seconds, deadline - time.monotonic())
        start = time.monotonic()
        try:
            with limit(seconds), torch.inference_mode():
                one["tokens_per_s"] = run()
        except Cut:
            one["cut"] = f"stopped after {time.monotonic() - start:.0f} s"
        except Exception as error:  # of whatever kind: the other phases are still worth it
            one["cut"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        one["seconds"] = time.monotonic() - start
        found["phases"].append(one)
        save()
        print(name, one.get("cut") or f"{one['tokens_per_s']:.1f} tokens/s", flush=True)

    phase(f"prefill {prompt}", 40, "eager", 0, prompt, lambda: peer.prefill(prompt))
    for batch, limits in ((1, (40, 150)), (64, (60, 120))):
        for mode, seconds in zip(("eager", "compile"), limits):
            phase(f"decode, batch {batch}", seconds, mode, batch, context,
                  lambda: peer.decode(batch, context, steps, mode == "compile"))


main()
