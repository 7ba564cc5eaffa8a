#!/usr/bin/env python3
"""One controller serves two models, over gRPC and HTTP: each request goes to the model that it names, and
the loss of one model's replica is nothing to the other."""
import concurrent.futures
import json
import pathlib
import shutil
import signal
import tempfile
import urllib.error
import urllib.request

from harness import BINARY, Lines, check, check_equal, check_no_leftovers, config, generate, model, run

# The bundled model, and one of other answers: positions turn at another pace.
folder = tempfile.TemporaryDirectory()
directories = {"austen": model("austen"), "persuasion": str(pathlib.Path(folder.name) / "persuasion")}
shutil.copytree(directories["austen"], directories["persuasion"])
(pathlib.Path(directories["persuasion"]) / "config.json").write_text(
    json.dumps(config(directories["austen"]) | {"rope_theta": 100.0}))
REQUEST = ["--prompt", "It is a truth", "--max-tokens", "20", "--seed", "3"]
alone = {name: generate("--model", directory, *REQUEST) for name, directory in directories.items()}
check(alone["austen"]["token_ids"] != alone["persuasion"]["token_ids"], "the models differ")

controller = Lines([BINARY, "controller", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
address = controller.next_line().removeprefix("listening ")
http_address = controller.next_line().removeprefix("http ")


def worker(name):
    return Lines([BINARY, "worker", "--controller", address, "--model", directories[name]])


workers = {name: worker(name) for name in directories}
for process in workers.values():
    process.wait_for_log("linked to the controller")


def over_grpc(name):
    return run([BINARY, "generate", "--server", address, "--served-model-name", name, *REQUEST,
                "--json"], code=None)


def over_http(path, body=None):
    """(status, the answer)"""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{http_address}{path}", data, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def complete(name):
    return over_http("/v1/completions", {"model": name, "prompt": "It is a truth", "max_tokens": 20, "seed": 3})


def metric(line):
    with urllib.request.urlopen(f"http://{http_address}/metrics") as response:
        return line in response.read().decode().splitlines()


# Requests of both at once.
names = list(directories) * 6
with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
    grpc = list(pool.map(over_grpc, names))
    http = list(pool.map(complete, names))
for name, by_grpc, (status, by_http) in zip(names, grpc, http):
    check_equal(json.loads(by_grpc.stdout)["token_ids"], alone[name]["token_ids"], f"ids of {name} over gRPC")
    check_equal((status, by_http["choices"][0]["text"]), (200, alone[name]["text"]), f"text of {name}")
    check_equal(by_http["model"], name, "the model that an answer names")
check_equal([m["id"] for m in over_http("/v1/models")[1]["data"]], sorted(directories), "the models")
for name in directories:
    check(metric(f'trireme_request_success_total{{model_name="{name}",finished_reason="length"}} 12'),
          f"12 requests of {name} counted")

# A request that names neither.
status, answer = over_http("/v1/completions", {"prompt": "It is a truth"})
check_equal(status, 400, "status without a model")
for name in directories:
    check(name in answer["error"]["message"], f"{name} is offered: {answer}")
check_equal(complete("emma")[0], 404, "status of a model that nobody serves")

# One model's replica dies: its requests wait for another, the other model's do not.
workers["persuasion"].process.kill()
workers["persuasion"].wait(code=-signal.SIGKILL)
controller.wait_for_log("lost")
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    waiting = pool.submit(complete, "persuasion")
    check_equal(complete("austen")[1]["choices"][0]["text"], alone["austen"]["text"], "the other model's text")
    check(not waiting.done(), "a request waits for its own model")
    workers["persuasion"] = worker("persuasion")
    check_equal(waiting.result()[1]["choices"][0]["text"], alone["persuasion"]["text"], "its text, once it came")

controller.process.send_signal(signal.SIGTERM)
controller.wait()
for process in workers.values():
    process.process.send_signal(signal.SIGTERM)
    process.wait(code=None)
check_no_leftovers()
folder.cleanup()
