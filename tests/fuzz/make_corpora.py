#!/usr/bin/env python3
"""Writes the hand-made seeds of the corpora of http, openai, controller and ledger (needs protoc).

What libFuzzer found beside them stands in the same folders by its hash."""
import json
import pathlib
import struct
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CORPUS = SOURCE / "tests" / "fuzz" / "corpus"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


# ---- http: bytes of a connection.
for name, data in {
        "get": b"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n",
        "post": b"POST /v1/completions HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz",
        "two": b"GET /a HTTP/1.1\r\n\r\nHEAD /b HTTP/1.0\r\n\r\n",
        "chunked": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: t\r\n\r\n",
        "both": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "expect": b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "upgrade": b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "tls": bytes.fromhex("16030100a5010000a10303"),
        "long_body": b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n",
        "negative": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
}.items():
    write("http", name, data)

# ---- openai: a byte for the path (completions, chats, tokenize), and a body.
COMPLETIONS = {
    "text": {"prompt": "abc", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 4},
    "ids": {"model": "m", "prompt": [2, 3], "n": 2, "stream": True,
            "stream_options": {"include_usage": True}},
    "several": {"prompt": ["a", "b"], "stop": ["x", "y"], "seed": 7, "echo": True},
    "lists": {"prompt": [[2, 3], [4]], "stop": "x", "min_tokens": 1, "ignore_eos": True},
    "refused": {"prompt": "a", "logit_bias": {"5": 1}, "best_of": 2, "logprobs": 3},
    "named": {"prompt": "a", "request_id": "r", "timeout_s": 1.5, "priority": -1, "cache_salt": "s",
              "on_disconnect": "detach", "detach_ttl_s": 5, "add_special_tokens": False, "dropout": 0.1},
    "stopped": {"prompt": "a", "stop": "x", "include_stop_str_in_output": True, "bad_words": [],
                "skip_special_tokens": True, "length_penalty": 1.0},
    "unsupported": {"prompt": "a", "guided_choice": ["a"], "skip_special_tokens": False},
    "wrong": {"prompt": {"a": 1}, "max_tokens": 1e99, "n": -1, "temperature": "hot"},
}
CHATS = {
    "chat": {"messages": [{"role": "system", "content": "Be brief."},
                          {"role": "user", "content": [{"type": "text", "text": "a"}]}]},
    "calls": {"messages": [{"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "2"}], "max_completion_tokens": 4},
    "chat_fields": {"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "low",
                    "tools": [{}], "tool_choice": "none", "logprobs": True, "top_logprobs": 20},
    "chat_wrong": {"messages": [{"role": 5}], "response_format": {"type": "json_object"}},
}
TOKENIZE = {
    "tokenize": {"model": "m", "prompt": "a", "return_token_strs": True},
    "tokenize_chat": {"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": False},
    "tokenize_both": {"messages": [], "prompt": "a", "continue_final_message": True},
}
for path, bodies in ((b"\0", COMPLETIONS), (b"\1", CHATS), (b"\2", TOKENIZE)):
    for name, body in bodies.items():
        write("openai", name, path + json.dumps(body).encode())
write("openai", "deep", b"\0" + b"[" * 5000)
write("openai", "no_utf8", b"\0{\"prompt\": \"\xff\xfe\", \"model\": \"\xc3\"}")

# ---- controller: records of a kind, a size, a message.
REQUEST, FIRST, SECOND, CANCEL, TIME, DOWN, GONE, DRAIN, ABORT = range(9)
PROTOS = {REQUEST: ("trireme.v1.GenerateRequest", "trireme/v1/inference.proto"),
          FIRST: ("trireme.replica.v1.FromReplica", "trireme/replica/v1/replica.proto"),
          SECOND: ("trireme.replica.v1.FromReplica", "trireme/replica/v1/replica.proto")}


def encode(message, file, text):
    return subprocess.run(["protoc", f"-I{SOURCE / 'proto'}", f"--encode={message}", file],
                          input=text, check=True, capture_output=True).stdout


def record(kind, content=""):
    data = content if isinstance(content, bytes) else content.encode()
    if kind in PROTOS:
        data = encode(*PROTOS[kind], data)
    return struct.pack("<BH", kind, len(data)) + data


def register(instance, kv_tokens=1024, max_rows=4):
    return (f'registration {{ revision: 1 instance: {instance} info {{ model: "m" fingerprint: "f" '
            f"eos_ids: 1 vocab_size: 100 context_length: 64 max_rows: {max_rows} "
            f'kv_tokens: {kv_tokens} kv_block_size: 16 tp: 1 pp: 1 hosts: "h" rank_pids: 1 }} }}')


def report(*deltas):
    return "report { %s stats { steps: 1 running: 1 } }" % " ".join(f"deltas {{ {d} }}" for d in deltas)


ASK = "ids { ids: [2, 3] } max_tokens: 4 seed: 7"
NAMED = ASK + ' request_id: "mine" on_disconnect: ON_DISCONNECT_DETACH'
for name, records in {
        "answered": [(FIRST, register(1)), (REQUEST, ASK), (FIRST, report("id: 1 ids: [5, 6]")),
                     (FIRST, report("id: 1 offset: 2 ids: [7, 8] finish: FINISH_LENGTH"))],
        "waits": [(REQUEST, ASK), (FIRST, register(1)), (REQUEST, ASK), (TIME, b"\x20"),
                  (FIRST, "heartbeat {}")],
        "replayed": [(FIRST, register(1)), (SECOND, register(2)), (REQUEST, ASK),
                     (FIRST, report("id: 1 ids: 5")), (DOWN, b""), (SECOND, report("id: 2 offset: 1 ids: 6"))],
        "choices": [(FIRST, register(1)), (REQUEST, ASK + " n: 3 stop_token_ids: 9"),
                    (FIRST, report("id: 1 ids: 5", "id: 2 ids: 6", "id: 3 finish: FINISH_STOP matched_stop_id: 9")),
                    (CANCEL, b"\1")],
        "faults": [(FIRST, register(1)), (REQUEST, ASK), (FIRST, report("id: 1 offset: 7 ids: -5")),
                   (SECOND, report("id: 99")), (SECOND, register(1, -5, 1))],
        "deadline": [(FIRST, register(1)), (REQUEST, ASK + " timeout_s: 1 priority: -3 echo: true"),
                     (TIME, b"\x05"), (TIME, b"\xff")],
        "comes_back": [(FIRST, register(1)), (REQUEST, NAMED), (FIRST, report("id: 1 ids: [5, 6]")),
                       (GONE, b""), (REQUEST, NAMED + " resume { choices { choice: 0 ids: 1 } }"),
                       (FIRST, report("id: 1 offset: 2 ids: [7, 8] finish: FINISH_LENGTH"))],
        "taken_over": [(FIRST, register(1)), (REQUEST, NAMED), (REQUEST, NAMED), (ABORT, b"mine")],
        "drained": [(FIRST, register(1)), (REQUEST, ASK), (DRAIN, b""), (REQUEST, ASK),
                    (FIRST, report("id: 1 ids: 5 finish: FINISH_STOP"))],
        "errors": [(FIRST, register(1)), (REQUEST, ASK), (FIRST, report('id: 1 error: "a" finish: FINISH_ERROR'))],
        "ranges": [(FIRST, register(1)), (REQUEST, "ids {} temperature: nan"),
                   (REQUEST, 'text: "abc" n: 200 stop: "" dropout: 2 min_tokens: -1'),
                   (REQUEST, "ids { ids: 2147483647 } max_tokens: 2147483647")],
}.items():
    write("controller", name, b"".join(record(*r) for r in records))

# ---- ledger: a file, or records that are put into one.
MODEL = 'model { model: "m" fingerprint: "-" eos_ids: 1 vocab_size: 100 context_length: 64 max_rows: 1 }'
HEADER = b"TRILEDGR" + struct.pack("<I", 1)


def request(sequence="", **more):
    fields = {"key": 1, "weight": 1, "n": 1, "arrived_us": 1700000000000000, "keep_us": 60000000} | more
    return ('request { tenant: "t" request_id: "r" digest: "d" model: "m" %s sequence { prompt_ids: [2, 3] '
            "top_p: 1 max_tokens: 4 %s } }" % (" ".join(f"{k}: {v}" for k, v in fields.items()), sequence))


IDS = 'ids { key: 1 ids: [5, 6] fingerprint: "f" }'
END = "finished { key: 1 finished { reason: FINISH_REASON_LENGTH usage { prompt_tokens: 2 } } }"
LOGPROBS = "logprobs { logprob: -1 top_ids: 5 top_logprobs: -1 }"
for name, records in {
        "asked": [MODEL, request()],
        "detached": [MODEL, request(detach="true"), IDS],
        "ended": [MODEL, request(), IDS, "ids { key: 1 offset: 2 ids: [7, 8] }", END],
        "failed": [MODEL, request(), IDS, 'failed { key: 1 code: 13 message: "why" }'],
        "gone": [MODEL, request(), IDS, "gone { key: 1 }"],
        "choices": [MODEL, request(n=3, detach="true"), "ids { key: 1 choice: 2 ids: 5 }", END],
        "logprobs": [MODEL, request("logprobs: 1", detach="true"), f"ids {{ key: 1 ids: 5 {LOGPROBS} }}"],
        "too_few_logprobs": [MODEL, request("logprobs: 1"), IDS],
        "no_model": [request(), IDS],
        "twice": [MODEL, request(), request(key=2)],
        "no_choice": [MODEL, request(n=0)],
        "many_choices": [MODEL, request(n=2147483647)],
        "no_weight": [MODEL, request(weight=0, detach="true"), request(weight="nan", key=2)],
        "no_ids": [MODEL, request("prompt_ids: -7"), "ids { key: 1 ids: [2147483647] }"],
        "no_time": [MODEL, request(arrived_us=-2**63, deadline_us=2**63 - 1, keep_us=2**63 - 1)],
        "too_long": [MODEL, request(detach="true"), "ids { key: 1 ids: [5, 5, 5, 5, 5, 5, 5] }"],
        "no_failure": [MODEL, request(), "failed { key: 1 code: 0 }"],
}.items():
    payloads = [encode("trireme.ledger.v1.Record", "trireme/ledger/v1/ledger.proto", r.encode()) for r in records]
    write("ledger", name, b"\1" + b"".join(struct.pack("<H", len(p)) + p for p in payloads))
write("ledger", "empty", b"\0")
write("ledger", "header", b"\0" + HEADER)
write("ledger", "torn_header", b"\0" + HEADER[:5])
write("ledger", "other_version", b"\0TRILEDGR" + struct.pack("<I", 2))
write("ledger", "torn", b"\0" + HEADER + struct.pack("<II", 100, 0) + b"abc")
write("ledger", "wrong_crc", b"\0" + HEADER + struct.pack("<II", 3, 0) + b"abc")
