#!/usr/bin/env python3
"""The command line: exit codes, streams, JSON, and where a flag's value comes from."""
import os
import pathlib
import pty
import signal
import subprocess
import tempfile

from harness import BINARY, ENV, PATIENCE_S, check, check_equal, endless, generate, model, run

directory = model("austen")
base = ["--model", directory, "--prompt", "It was", "--temperature", "0"]

# Help and version go to stdout and are no errors; a wrong word is one line and code 2.
check("generate" in run([BINARY, "--help"]).stdout, "--help lists the commands")
check(run([BINARY, "version"]).stdout.startswith("trireme "), "version")
for command in ("generate", "serve", "controller", "worker", "tokenize", "ctl stats", "ctl models",
                "ctl drain", "ctl abort", "bench kernels",
                "bench comm", "bench engine", "bench serve", "version"):
    text = run([BINARY, *command.split(), "--help"]).stdout
    check("Examples:" in text, f"{command} --help has examples")
check("bench engine" in run([BINARY, "bench", "--help"]).stdout, "bench --help lists its commands")

# A flag's value is what it should be, or refused with what was expected.
mine = ["generate", "--server", "127.0.0.1:1", "--prompt", "x"]
for words, message in (
        ([], "trireme: expected a command (see trireme --help)"),
        (["sail"], "trireme: unknown command sail (see trireme --help)"),
        (["generate", "--modle", "x"],
         "trireme generate: The following arguments were not expected: x --modle"),
        (["serve"], "trireme serve: --model is required (see trireme serve --help)"),
        (["generate", *base, "--tp", "zero"], "trireme generate: --tp: expected a whole number, "
         "at least 1, not zero (see trireme generate --help)"),
        (["generate", *base, "--dtype", "int3"], "trireme generate: --dtype: expected f32, f16, "
         "bf16, not int3 (see trireme generate --help)"),
        (["generate", "--model", directory, "--prompt-ids", "1,,2"], "trireme generate: "
         "--prompt-ids: expected a whole number, not an empty text (in 1,,2)"),
        (["generate", "--model", directory, "--prompt-ids", ""],
         "trireme generate: --prompt-ids: expected a whole number, not an empty text"),
        (["generate", *base, "--max-tokens", ""],
         "trireme generate: --max-tokens: expected a whole number, not an empty text"),
        (["generate", *base, "--temperature", ""],
         "trireme generate: --temperature: expected a number, not an empty text"),
        (["generate", *base, "--seed", "-1"],
         "trireme generate: --seed: expected a whole number, at least 0, not -1"),
        (["generate", *base, "--seed", "99999999999999999999999"], "trireme generate: --seed: "
         "expected a whole number, at most 18446744073709551615, not 99999999999999999999999"),
        (["serve", "--model", directory, "--grpc-addr", "127.0.0.1:99999"], "trireme serve: "
         "--grpc-addr: expected HOST:PORT with a port from 0 to 65535, not 127.0.0.1:99999"),
        (["ctl", "stats", "--server", "127.0.0.1"], "trireme ctl stats: --server: expected HOST:PORT with a "
         "port from 1 to 65535, not 127.0.0.1"),
        # Nor does a flag go without effect.
        ([*mine, "--tp", "1"], "trireme generate: --tp is for --model; the model of --server is "
         "loaded already (see trireme generate --help)"),
        ([*mine, "--sequence-parallel"], "trireme generate: --sequence-parallel is for --model"),
        ([*mine, "--no-avx512"], "trireme generate: --no-avx512 is for --model"),
        (["serve", "--model", directory, "--launch", "none", "--launch-args", "-H a"],
         "trireme serve: --launch-args is for --launch mpirun or srun")):
    done = run([BINARY, *words], code=2)
    check_equal(done.stdout, "", f"stdout of {words}")
    check(done.stderr.startswith(message) and done.stderr.count("\n") == 1, f"{words}: {done.stderr}")

# The JSON object: these fields in this order.
answer = generate(*base, "--max-tokens", "5")
check_equal(list(answer), ["text", "token_ids", "finish_reason", "usage", "timings", "seed"], "fields")
check_equal(list(answer["usage"]), ["prompt_tokens", "completion_tokens", "cached_tokens"], "usage")
check_equal(list(answer["timings"]), ["queue_s", "ttft_s", "tbt_s_mean", "total_s"], "timings")
check_equal(answer["finish_reason"], "length", "finish reason")
check_equal(len(answer["token_ids"]), 5, "tokens")

# The same as text; and from ids.
text = run([BINARY, "generate", *base, "--max-tokens", "5"]).stdout
check_equal(text, answer["text"] + "\n", "streamed text")
ids = run([BINARY, "tokenize", "--model", directory, "--ids", "It was"]).stdout.strip()
check_equal(run([BINARY, "tokenize", "--model", directory, "--ids"], stdin="It was").stdout.strip(),
            ids, "tokenize of stdin")
from_ids = generate("--model", directory, "--prompt-ids", ids, "--temperature", "0", "--max-tokens", "5")
check_equal(from_ids["token_ids"], answer["token_ids"], "ids after --prompt-ids")

# The seed comes back and gives the same again.
drawn = generate("--model", directory, "--prompt", "It was", "--max-tokens", "8")
again = generate("--model", directory, "--prompt", "It was", "--max-tokens", "8", "--seed",
                 str(drawn["seed"]))
check_equal(again["token_ids"], drawn["token_ids"], "ids of the same seed")

# Flag before environment before file.
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "config.toml"
    file.write_text(f'max-tokens = 2\n[generate]\nmodel = "{directory}"\n[serve]\nreplicas = 3\n')
    few = ["--config", str(file), "--prompt", "It was", "--temperature", "0"]
    check_equal(len(generate(*few)["token_ids"]), 2, "tokens by the file")
    env = {"TRIREME_MAX_TOKENS": "3"}
    check_equal(len(generate(*few, env=env)["token_ids"]), 3, "tokens by the environment")
    check_equal(len(generate(*few, "--max-tokens", "4", env=env)["token_ids"]), 4, "tokens by the flag")
    file.write_text("max-tokns = 2\n")
    done = run([BINARY, "generate", "--config", str(file), *base], code=2)
    check("max-tokns" in done.stderr, f"an unknown key is named: {done.stderr}")
    file.write_text("[generate]\nthreads = 1\n")
    for more, env, flag in ((["--config", str(file)], {}, "--threads"),
                            ([], {"TRIREME_KV_CACHE_BYTES": "1M"}, "--kv-cache-bytes")):
        done = run([BINARY, *mine, *more], code=2, env=env)
        check(f"{flag} is for --model" in done.stderr, f"wherever it comes from: {done.stderr}")

# On a terminal a bar shows how loading goes, to its end; it is gone before the text begins.
ours, terminal = pty.openpty()
loading = subprocess.Popen([BINARY, "generate", *base, "--max-tokens", "5"], env=ENV,
                           stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
os.close(terminal)
shown = b""
try:
    while part := os.read(ours, 4096):
        shown += part
except OSError:  # EIO: nobody has the terminal any more
    pass
os.close(ours)
check_equal(loading.wait(PATIENCE_S), 0, "the exit code on a terminal")
bar, _, rest = shown.decode().replace("\r\n", "\n").rpartition("\r\033[K")
check("\rloading [" in bar and bar.endswith(" MB") and "] 100% of " in bar, f"the bar: {shown}")
check_equal(rest, answer["text"] + "\n", "what follows the bar")

# Ctrl-C ends a generation that is under way, and the text so far stays.
with tempfile.TemporaryDirectory() as folder:
    client = subprocess.Popen([BINARY, "generate", "--model", endless(directory, folder), "--prompt",
                               "It was", "--ignore-eos"], env=ENV, stdout=subprocess.PIPE)
    check(client.stdout.read(1), "no text came")
    client.send_signal(signal.SIGINT)
    check(client.stdout.read().endswith(b"\n"), "the text ends with a line")
    check_equal(client.wait(PATIENCE_S), 130, "the exit code after Ctrl-C")
