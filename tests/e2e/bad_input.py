#!/usr/bin/env python3
"""Bad input to real processes: one clear line, the right code, and a server that lives on."""
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from harness import (BINARY, ENV, PATIENCE_S, Server, check, check_equal, check_no_leftovers, config,
                     model, mpirun, run)

directory = model("austen")
heads = config(directory)["num_attention_heads"]
folder = tempfile.TemporaryDirectory()
os.chmod(folder.name, 0o755)


def complains(command, pattern, code=1):
    """One line on stderr that matches, nothing on stdout. mpirun's own notices do not count."""
    done = run(command, code=code)
    lines = [line for line in done.stderr.splitlines() if line.startswith("trireme")]
    check_equal(done.stdout, "", f"stdout of {command}")
    check(len(lines) == 1 and re.search(pattern, lines[0]), f"{command}: {done.stderr}\n!~ {pattern}")
    if command[0] == BINARY:
        check_equal(len(done.stderr.splitlines()), 1, f"lines of {command}: {done.stderr}")


def broken(name, change):
    """A copy of the model after `change(its path)`."""
    copy = pathlib.Path(folder.name) / name
    shutil.copytree(directory, copy)
    change(copy)
    return str(copy)


def edit(file, change):
    """Changes bytes -> bytes of one file of a copy."""
    return lambda path: (path / file).write_bytes(change((path / file).read_bytes()))


def edit_header(change):
    """Changes the JSON of the safetensors header; the data stay."""
    def rewrite(data):
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length:]
    return edit("model.safetensors", rewrite)


def first(header):
    return header[min(name for name in header if name != "__metadata__")]


def overlap(header):
    names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    begin, end = header[names[1]]["data_offsets"]
    header[names[1]]["data_offsets"] = [begin - 2, end - 2]


def rename(header):
    header["model.layers.0.extra.weight"] = header.pop("model.layers.0.mlp.down_proj.weight")


def local(path):
    return [BINARY, "generate", "--model", str(path), "--prompt", "It was", "--max-tokens", "2"]


# Models that are not there or not right.
complains(local("/no/such/model"), r"/no/such/model.*No such file")
complains(local(__file__), r"bad_input\.py")
for name, change, pattern in (
        ("truncated", edit("model.safetensors", lambda d: d[:len(d) // 2]),
         r"model\.safetensors: .*the file holds"),
        ("header-length", edit("model.safetensors", lambda d: struct.pack("<Q", 1 << 40) + d[8:]),
         r"model\.safetensors: .*header length 1099511627776"),
        ("not-json", edit("model.safetensors", lambda d: d[:8] + b"{]" + d[10:]),
         r"model\.safetensors: .*not valid JSON"),
        ("overlap", edit_header(overlap), r"model\.safetensors: tensor \".*\" begins at byte"),
        ("size", edit_header(lambda h: first(h)["shape"].append(2)), r"model\.safetensors: .*takes"),
        ("missing", edit_header(rename), r"model\.layers\.0\.mlp\.down_proj\.weight"),
        ("extra", edit_header(rename), r"model\.layers\.0\.extra\.weight"),
        ("architecture", edit("config.json", lambda d: d.replace(b"LlamaForCausalLM", b"NoSuchLM")),
         r"config\.json: .*NoSuchLM"),
        ("config", edit("config.json", lambda d: d[:-20]), r"config\.json: "),
        ("tokenizer", edit("tokenizer.json", lambda d: d[:-100]), r"tokenizer\.json.*JSON"),
        ("tokenizer-type", edit("tokenizer.json", lambda d: d.replace(b'"BPE"', b'"Abacus"')),
         r"tokenizer\.json.*Abacus")):
    path = broken(name, change)
    complains(local(path), pattern)

# A directory that may not be read.
locked = pathlib.Path(broken("locked", lambda path: path.chmod(0o700)))
if os.geteuid() == 0:
    # Root opens the binary: nobody may have no way to it.
    with open(BINARY, "rb") as binary:
        done = subprocess.run(local(locked), executable=f"/proc/self/fd/{binary.fileno()}",
                              pass_fds=[binary.fileno()], user=65534, group=65534, extra_groups=[],
                              env=ENV, text=True, capture_output=True, timeout=PATIENCE_S)
    check_equal(done.returncode, 1, f"the exit code of nobody: {done.stderr}")
    check(re.fullmatch(r"trireme: .*locked.*Permission denied.*\n", done.stderr), done.stderr)
else:
    locked.chmod(0)
    complains(local(locked), r"locked.*Permission denied")
    locked.chmod(0o700)

# Layouts that do not fit.
complains([*local(directory), "--tp", "2"], r"--tp 2 x --pp 1 needs 2 ranks, but 1 is", code=2)
complains(mpirun(3, *local(directory)[1:], "--tp", "2"), r"needs 2 ranks, but 3 are", code=2)
complains(mpirun(heads + 1, *local(directory)[1:], "--tp", str(heads + 1)),
          rf"--tp {heads + 1}: expected 1 to {heads}")

# An error of one rank ends the job, and the rank says why.
def ranks(*each):
    """mpirun of one rank for each list of further flags."""
    command = ["mpirun", "--oversubscribe", "--bind-to", "none"]
    for flags in each:
        command += [*([":"] if flags is not each[0] else []), "-n", "1", *local(directory), *flags]
    return command


complains(ranks(["--tp", "2"], ["--tp", "3"]),
          r"^trireme generate: rank 1: --tp 3 x --pp 1 needs 3 ranks, but 2 are", code=2)
complains(ranks(["--tp", "2"], ["--tp", "2", "--config", "/nope"]),
          r"^trireme generate: rank 1: .*/nope", code=2)
complains(ranks(["--tp", "3"], ["--tp", "2"]), r"^trireme generate: --tp 3 x --pp 1 needs", code=2)
complains(ranks(["--tp", "2"], ["--tp", "2", "--max-rows", "9"]),
          r"^trireme: the ranks differ: rank 0 on \S+ has max-rows=64, rank 1 on \S+ has max-rows=9")

# A server that cannot start says so and leaves nothing.
done = run([BINARY, "serve", "--model", "/no/such/model", "--grpc-addr", "127.0.0.1:0"], code=1)
check(re.fullmatch(r"trireme: replica 0: /no/such/model.*No such file.*\n", done.stderr), done.stderr)
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    complains([BINARY, "serve", "--model", directory, "--grpc-addr", address], re.escape(address))
complains([BINARY, "generate", "--server", "127.0.0.1:1", "--prompt", "x"], r"127\.0\.0\.1:1: ")
check_no_leftovers()

# Requests that are wrong; the server answers the next one.
server = Server("--model", directory, "--served-model-name", "jane")
good = server.generate("--prompt", "It was", "--max-tokens", "3", "--temperature", "0")
for arguments, pattern in (
        (["--prompt", "so " * 4000], r"INVALID_ARGUMENT: the prompt has \d+ tokens; the context of "),
        (["--prompt-ids", "1,999999"], r"INVALID_ARGUMENT: .*\[1\] is 999999, outside the vocabulary"),
        (["--prompt-ids", "-1"], r"INVALID_ARGUMENT: .*\[0\] is -1, outside the vocabulary"),
        (["--temperature", "nan"], r"INVALID_ARGUMENT: temperature is nan"),
        (["--temperature", "-1"], r"INVALID_ARGUMENT: temperature is -1"),
        (["--temperature", "inf"], r"INVALID_ARGUMENT: temperature is inf"),
        (["--top-k", "-1"], r"INVALID_ARGUMENT: top_k is -1"),
        (["--top-p", "0"], r"INVALID_ARGUMENT: top_p is 0"),
        (["--top-p", "nan"], r"INVALID_ARGUMENT: top_p is nan"),
        (["--min-p", "1"], r"INVALID_ARGUMENT: min_p is 1"),
        (["--max-tokens", "0"], r"INVALID_ARGUMENT: max_tokens is 0"),
        (["--max-tokens", "2000000000"], r"INVALID_ARGUMENT: .*max_tokens 2000000000"),
        (["--stop", ""], r"INVALID_ARGUMENT: stop has an empty string"),
        (["--served-model-name", "emma"], r'NOT_FOUND: no model is named "emma"')):
    if arguments[0] not in ("--prompt", "--prompt-ids"):
        arguments = ["--prompt", "It was", *arguments]
    complains(server.client(*arguments), f"^trireme: {server.address}: {pattern}")
again = server.generate("--prompt", "It was", "--max-tokens", "3", "--temperature", "0")
check_equal(again["token_ids"], good["token_ids"], "ids after all those")
check_equal(server.stats()["requests"]["refused"], 14, "refused requests")
server.stop()
