#!/usr/bin/env python3
"""Metrics, checked by Prometheus's own tool: by vLLM's names with either prefix, over a restart of the
replica, of tenants, of refusals."""
import json
import os
import pathlib
import re
import signal
import tempfile
import time
import urllib.error
import urllib.request

from harness import BINARY, PATIENCE_S, Server, check, check_equal, model, run

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "metrics"
VLLM = set((GOLDEN / "vllm.txt").read_text().split())
# What promtool minds in names that are vLLM's.
VLLMS_OWN = re.compile(r"metric names should not contain ':'|"
                       r"iteration_tokens_total non-counter metrics should not have \"_total\" suffix")
# Beside those of features that there are none of: LoRA, speculation, multimodal inputs, KV offloading, sleep.
NOT_YET = {"admission_rejections_total", "corrupted_requests_total", "engine_sleep_state",
           "kv_block_idle_before_evict_seconds", "kv_block_lifetime_seconds", "kv_block_reuse_gap_seconds",
           "num_requests_waiting_by_reason", "prompt_tokens_by_source_total", "prompt_tokens_cached_total",
           "request_prefill_kv_computed_tokens"}
NO_SUCH_THING = {name for name in VLLM if name.startswith(("external_", "lora_", "mm_", "spec_decode_"))}

folder = tempfile.TemporaryDirectory()
keys = pathlib.Path(folder.name) / "keys.txt"
made = run([BINARY, "key", "team-a"])
keys.write_text(made.stdout)
KEY = made.stderr.strip().rpartition(" ")[2]


def post(server, body, key=KEY, path="/v1/completions"):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"http://{server.http_address}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def metrics(server):
    with urllib.request.urlopen(f"http://{server.admin_address}/metrics") as answer:
        return answer.read().decode()


def values(text):
    """By sample."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines()
            if not line.startswith("#")}


def families(text):
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def check_by_promtool(text):
    told = run(["promtool", "check", "metrics"], stdin=text, code=None)
    said = [line for line in (told.stdout + told.stderr).splitlines() if line]
    check(all(VLLMS_OWN.search(line) for line in said), "\n".join(said))
    check_equal(told.returncode, 3 if said else 0, "promtool's exit code")


def check_by_names(text, prefix):
    check_by_promtool(text)
    names = families(text)
    vllms = {name.removeprefix(prefix) for name in names if name.removeprefix(prefix) in VLLM}
    check_equal(VLLM - vllms, NOT_YET | NO_SUCH_THING, "names of vLLM's that lack")
    rest = {name for name in names if name.removeprefix(prefix) not in VLLM}
    check(all(name.startswith(("trireme_", "process_")) for name in rest), rest)
    for name in ("resident_memory_bytes", "open_fds", "cpu_seconds_total", "start_time_seconds"):
        check(f"process_{name}" in names, f"no process_{name}")


REQUEST = {"prompt": "It was", "max_tokens": 5, "temperature": 0}
common = ["--model", model("austen"), "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]
server = Server(*common, "--metrics-compat", "vllm")
check_equal(post(server, REQUEST), 200, "status")
text = metrics(server)
check_by_names(text, "vllm:")
check_equal(values(text)['vllm:request_params_max_tokens_sum{model_name="austen"}'], 5, "max_tokens")
server.stop()

server = Server(*common, "--api-keys", str(keys), "--ledger-dir", str(pathlib.Path(folder.name) / "ledger"))
for _ in range(2):
    check_equal(post(server, REQUEST), 200, "status")
text = metrics(server)
check_by_names(text, "trireme_")
now = values(text)
for sample, value in {
        'trireme_replicas_ready{model_name="austen"}': 1,
        'trireme_request_success_total{model_name="austen",finished_reason="length"}': 2,
        'trireme_request_inference_time_seconds_count{model_name="austen"}': 2,
        'trireme_request_max_num_generation_tokens_sum{model_name="austen"}': 10,
        'trireme_tenant_generation_tokens_total{model_name="austen",tenant="team-a"}': 10,
        'trireme_tenant_requests_running{model_name="austen",tenant="team-a"}': 0,
        'trireme_http_requests_total{path="/v1/completions",status="200"}': 2,
        'trireme_requests_limit': 4096,
        'trireme_ledger_disk_full': 0}.items():
    check_equal(now.get(sample), value, sample)
# Every token of a prompt that is computed, and every one that is generated but the last.
steps = now['trireme_iteration_tokens_total_sum{model_name="austen"}']
check(8 <= steps <= 20, f"tokens of steps: {steps}")
check_equal(abs(now["process_start_time_seconds"] - time.time()) < 600, True, "start of the process")

# Whoever is refused is counted by reason; a line of the log names the first one's address, never its key.
WRONG = "tk-of-nobody"
for _ in range(5):
    check_equal(post(server, REQUEST, key=WRONG), 401, "status of a wrong key")
check_equal(post(server, REQUEST | {"temperature": -1}), 400, "status of a wrong value")
check_equal(post(server, {"prompt": 3}), 400, "status of a wrong type")
check_equal(post(server, REQUEST | {"model": "emma"}), 404, "status of a wrong model")
check_equal(post(server, REQUEST, path="/nonsense/1"), 404, "status of no path")
check("UNAUTHENTICATED" in run(server.client("--prompt", "It was"), code=1).stderr, "gRPC without a key")
now = values(metrics(server))
for reason, n in {"unauthenticated": 6, "invalid": 2, "not_found": 1, "queue_full": 0}.items():
    check_equal(now[f'trireme_requests_refused_total{{reason="{reason}"}}'], n, f"refused: {reason}")
check_equal(now['trireme_http_requests_total{path="/v1/completions",status="401"}'], 5, "answers of 401")
check_equal(now['trireme_http_requests_total{path="other",status="404"}'], 1, "answers of no path")
said = [line for line in server.log if "is refused" in line]
check_equal(len(said), 1, f"lines about refusals: {said}")
check("127.0.0.1:" in said[0] and not any(WRONG in line for line in server.log), said)
print(said[0])

# A replica that is started again goes on in its series.
QUERIES = 'trireme_prefix_cache_queries_total{model_name="austen",engine="0"}'
before = now[QUERIES]
check(before > 0, "prompt tokens looked up")
for pid in server.ranks().values():
    os.kill(pid, signal.SIGKILL)
check_equal(post(server, REQUEST), 200, "status of a request that waits for the next replica")
text = metrics(server)
now = values(text)
check(now[QUERIES] > before, f"{QUERIES}: {before} before the restart, {now[QUERIES]} behind it")
check_equal(set(re.findall(r'engine="(\d+)"', text)), {"0"}, "engines")
check_equal(now["trireme_replicas_lost_total"], 1, "replicas lost")
server.stop()
folder.cleanup()
