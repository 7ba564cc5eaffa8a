#!/usr/bin/env python3
"""OpenAI's API over HTTP on a real server: the ids and texts that gRPC gives, streams, errors, a client
that goes away, a replica that dies mid-stream."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import tempfile

from harness import BINARY, Server, check, check_equal, config, generate, model, run

# The bundled model, with a chat template and room for requests that only an event ends.
folder = tempfile.TemporaryDirectory()
directory = pathlib.Path(folder.name) / "austen"
shutil.copytree(model("austen"), directory)
(directory / "chat_template.jinja").write_text(
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}")
CONTEXT = 20_000
(directory / "config.json").write_text(json.dumps(config(directory) | {"max_position_embeddings": CONTEXT}))
server = Server("--model", str(directory), "--tp", "2", "--http-addr", "127.0.0.1:0")
HOST, PORT = server.http_address.rsplit(":", 1)
SAMPLED = {"model": "austen", "prompt": "It is a truth", "max_tokens": 40, "seed": 7, "top_p": 0.9,
           "ignore_eos": True}


def connect():
    return http.client.HTTPConnection(HOST, int(PORT), timeout=60)


def fetch(method, path, body=None, connection=None, **headers):
    """(status, x-request-id, the JSON); `headers` with _ for -."""
    connection = connection or connect()
    connection.request(method, path, None if body is None else json.dumps(body),
                       {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    answer = response.read()
    return response.status, response.getheader("X-Request-Id"), json.loads(answer)


def call(*args):
    status, _, answer = fetch(*args)
    return status, answer


def stream(body, after_first=lambda event: None, path="/v1/completions"):
    """The objects of a streamed completion; the last line must be [DONE]."""
    connection = connect()
    connection.request("POST", path, json.dumps(body | {"stream": True}))
    response = connection.getresponse()
    check_equal(response.status, 200, "status of a stream")
    check_equal(response.getheader("Content-Type"), "text/event-stream", "its type")
    events = []
    for line in response:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            events.append(json.loads(line[6:]))
            if len(events) == 1:
                after_first(events[0])
        last = line.strip() or last
    check_equal(last, b"data: [DONE]", "the last line")
    return events


def texts(events, index=0):
    return "".join(c["text"] for e in events for c in e["choices"] if c["index"] == index)


grpc = server.generate("--prompt", "It is a truth", "--max-tokens", "40", "--seed", "7", "--top-p",
                       "0.9", "--ignore-eos")
keep_alive = connect()
status, whole = call("POST", "/v1/completions", SAMPLED, keep_alive)
check_equal(status, 200, "status")
check_equal(whole["choices"][0]["text"], grpc["text"], "text over HTTP and over gRPC")
check_equal(whole["usage"]["completion_tokens"], 40, "completion tokens")
status, two = call("POST", "/v1/completions", SAMPLED | {"n": 2}, keep_alive)
check_equal(two["choices"][0]["text"], grpc["text"], "the first of two choices")
check(two["choices"][1]["text"] != grpc["text"], "the second choice has draws of its own")
events = stream(SAMPLED | {"n": 2, "stream_options": {"include_usage": True}})
for i in range(2):
    check_equal(texts(events, i), two["choices"][i]["text"], f"choice {i} streamed")
check_equal(events[-1]["choices"], [], "choices of the last object")
check_equal(events[-1]["usage"]["completion_tokens"], 80, "usage of the stream")

status, ids = call("POST", "/tokenize", {"prompt": "It is a truth"})
check_equal(call("POST", "/v1/completions", SAMPLED | {"prompt": ids["tokens"]})[1]["choices"][0]["text"],
            grpc["text"], "a prompt of ids")
check("It is a truth" in call("POST", "/detokenize", {"tokens": ids["tokens"]})[1]["prompt"], "detokenize")
check_equal(call("GET", "/v1/models")[1]["data"][0]["id"], "austen", "the model's name")
check_equal(call("GET", "/v1/models/austen")[0], 200, "a model by name")
check_equal(call("GET", "/health")[0], 200, "health")
check_equal(call("GET", "/live")[0], 200, "live")
check("version" in call("GET", "/version")[1], "version")

# Penalties: the same over gRPC.
penalised = SAMPLED | {"frequency_penalty": 1.5, "repetition_penalty": 1.2, "logit_bias": {"5": -3}}
status, answer = call("POST", "/v1/completions", penalised)
check_equal(answer["choices"][0]["text"], server.generate(
    "--prompt", "It is a truth", "--max-tokens", "40", "--seed", "7", "--top-p", "0.9", "--ignore-eos",
    "--frequency-penalty", "1.5", "--repetition-penalty", "1.2", "--logit-bias", "5=-3")["text"], "penalised")
check(answer["choices"][0]["text"] != grpc["text"], "penalties change the draws")

# Logprobs: a stream has them, and a prompt that holds what was generated has the same bits.
scored = SAMPLED | {"logprobs": 2}
logprobs = call("POST", "/v1/completions", scored)[1]["choices"][0]["logprobs"]
check_equal(len(logprobs["token_logprobs"]), 40, "logprobs")
check_equal("".join(logprobs["tokens"]), whole["choices"][0]["text"], "tokens are the text")
check(all(token in top and top[token] == logprob for token, logprob, top in zip(
    logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"])), logprobs)
chunks = [c["logprobs"] for e in stream(scored) for c in e["choices"] if c["logprobs"]]
for field, values in logprobs.items():
    check_equal([value for chunk in chunks for value in chunk[field]], values, f"{field} streamed")
all_ids = ids["tokens"] + grpc["token_ids"]
status, echoed = call("POST", "/v1/completions", scored | {"prompt": all_ids, "max_tokens": 1, "echo": True})
echoed = echoed["choices"][0]["logprobs"]
check_equal(echoed["token_logprobs"][0], None, "logprob of the first token")
for field in ("tokens", "token_logprobs", "top_logprobs"):
    check_equal(echoed[field][len(ids["tokens"]):-1], logprobs[field], f"{field} of the prompt")

# What Prometheus is told.
connection = connect()
connection.request("GET", "/metrics")
metrics = connection.getresponse().read().decode()
for line in ['trireme_request_success_total{model_name="austen",finished_reason="length"} 10',
             'trireme_num_requests_running{model_name="austen"} 0', 'trireme_replicas_ready{model_name="austen"} 1',
             'trireme_time_to_first_token_seconds_count{model_name="austen"} 12',
             'trireme_generation_tokens_total{model_name="austen"} 441']:
    check(line in metrics, f"no {line} in\n{metrics}")

# A chat is what its template makes of it.
rendered = "user: Who is Emma?\nassistant:"
ids = call("POST", "/tokenize", {"prompt": rendered, "add_special_tokens": False})[1]["tokens"]
plain = call("POST", "/v1/completions", SAMPLED | {"prompt": ids})[1]["choices"][0]["text"]
chat = {k: v for k, v in SAMPLED.items() if k != "prompt"} | {
    "messages": [{"role": "user", "content": " Who is Emma? "}]}
answer = call("POST", "/v1/chat/completions", chat)[1]
check_equal(answer["choices"][0]["message"], {"role": "assistant", "content": plain}, "a chat's answer")
messages = pathlib.Path(folder.name) / "messages.json"
messages.write_text(json.dumps(chat["messages"]))
arguments = ["--chat", str(messages), "--max-tokens", "40", "--seed", "7", "--top-p", "0.9", "--ignore-eos"]
check_equal(server.generate(*arguments)["text"], plain, "a chat over gRPC")
check_equal(generate("--model", str(directory), *arguments)["text"], plain, "a chat in one process")
deltas = [e["choices"][0]["delta"] for e in stream(chat, path="/v1/chat/completions")]
check_equal(deltas[0], {"role": "assistant", "content": ""}, "the first delta of a chat")
check_equal("".join(d.get("content", "") for d in deltas), plain, "a chat streamed")

for body, wanted, words in [
        (SAMPLED | {"model": "gpt-4"}, 404, "no model is named"),
        (SAMPLED | {"max_tokens": 0}, 400, "max_tokens is 0"),
        (SAMPLED | {"temperature": "hot"}, 400, "temperature: expected a number"),
        (SAMPLED | {"logit_bias": {"x": 1}}, 400, "logit_bias: expected an object"),
        (SAMPLED | {"max_tokens": 0, "stream": True}, 400, "max_tokens is 0")]:
    status, answer = call("POST", "/v1/completions", body)
    check_equal(status, wanted, f"status of {body}")
    check(words in answer["error"]["message"], answer)

# One prompt that is refused refuses its request: the others are not run on for nobody.
for prompts in (["It was"] * 8, ["It was " * 60] * 200):
    status, answer = call("POST", "/v1/completions", {"prompt": ["", *prompts], "max_tokens": 200})
    check_equal((status, answer["error"]["param"]), (400, "prompt"), f"{len(prompts)} more: {answer}")
    server.await_stats(lambda s: s["requests"]["running"] == s["requests"]["waiting"] == 0, "their end")

# An error names the field and has a code.
MESSAGES = {"messages": chat["messages"]}
COMPLETIONS, CHATS = ("POST", "/v1/completions"), ("POST", "/v1/chat/completions")
beyond = "so " * CONTEXT
for where, body, wanted in [
        (COMPLETIONS, SAMPLED | {"n": 0}, (400, "n", None)),
        (COMPLETIONS, SAMPLED | {"temperature": -1}, (400, "temperature", None)),
        (COMPLETIONS, SAMPLED | {"top_p": 0}, (400, "top_p", None)),
        (COMPLETIONS, SAMPLED | {"logprobs": 21}, (400, "logprobs", None)),
        (COMPLETIONS, SAMPLED | {"prompt": ""}, (400, "prompt", None)),
        (COMPLETIONS, SAMPLED | {"skip_special_tokens": False}, (400, "skip_special_tokens", None)),
        (COMPLETIONS, SAMPLED | {"max_tokens": CONTEXT}, (400, "max_tokens", "context_length_exceeded")),
        (COMPLETIONS, SAMPLED | {"prompt": beyond}, (400, "prompt", "context_length_exceeded")),
        (CHATS, {"messages": [{"role": "user", "content": beyond}]}, (400, "messages", "context_length_exceeded")),
        (CHATS, MESSAGES | {"max_completion_tokens": CONTEXT},
         (400, "max_completion_tokens", "context_length_exceeded")),
        (CHATS, MESSAGES | {"logprobs": True, "top_logprobs": 21}, (400, "top_logprobs", None)),
        (CHATS, MESSAGES | {"tool_choice": "required"}, (400, "tool_choice", None)),
        (CHATS, MESSAGES | {"model": "gpt-4"}, (404, "model", "model_not_found")),
        (("GET", "/v1/models/gpt-4"), None, (404, "model", "model_not_found")),
        (("POST", "/tokenize"), {"prompt": "a", "model": "gpt-4"}, (404, "model", "model_not_found")),
        (("GET", "/nothing"), None, (404, None, "not_found")),
        (("POST", "/v1/embeddings"), {"input": "a"}, (404, None, "not_found")),
        (("GET", "/v1/completions"), None, (405, None, "method_not_allowed")),
        (("POST", "/health"), {}, (405, None, "method_not_allowed"))]:
    status, name, answer = fetch(*where, body)
    error = answer["error"]
    check_equal((status, error["param"], error["code"]), wanted, f"{where}: {error}")
    check(name.startswith(("req-", "cmpl-", "chatcmpl-")), f"x-request-id of an error: {name}")

# One id: of the answer, its header, the log and `ctl abort`.
status, name, answer = fetch(*COMPLETIONS, SAMPLED)
check(answer["id"] == name and name.startswith("cmpl-"), f"{answer['id']} is {name}")
status, name, answer = fetch(*CHATS, chat, X_Request_Id="trace-7")
check(name == "trace-7" and answer["id"].startswith("chatcmpl-trace-7-"), f"{answer['id']} of {name}")
status, name, answer = fetch(*COMPLETIONS, SAMPLED | {"seed": 8}, X_Request_Id="trace-7")
check_equal((status, name), (200, "trace-7"), "another request of that trace")
status, name, answer = fetch(*COMPLETIONS, SAMPLED | {"request_id": "mine"})
check_equal((name, answer["id"]), ("mine", "mine"), "a request_id")
for bad in ("two words", "x" * 97):
    status, name, _ = fetch("GET", "/health", X_Request_Id=bad)
    check(name.startswith("req-"), f"x-request-id where {bad!r} was sent: {name}")


def abort(event):
    run([BINARY, "ctl", "abort", "--server", server.address, "--request-id", event["id"]])


aborted = stream(SAMPLED | {"max_tokens": CONTEXT - 100}, after_first=abort)[-1]
check_equal(aborted.get("error", {}).get("code"), "cancelled", "the end of a stream that was aborted by its id")

# The rest of what is gRPC's: a deadline, and requests that outlive their client.
status, answer = call(*COMPLETIONS, SAMPLED | {"max_tokens": CONTEXT - 100, "timeout_s": 1})
check_equal((status, answer["choices"][0]["finish_reason"]), (200, "length"), "a deadline")
check(answer["usage"]["completion_tokens"] < CONTEXT - 100, answer["usage"])
kept = SAMPLED | {"max_tokens": 400, "on_disconnect": "detach", "detach_ttl_s": 60}
connection = connect()
connection.request(*COMPLETIONS, json.dumps(kept | {"request_id": "kept", "stream": True}))
name = json.loads(connection.getresponse().readline()[6:])["id"]
connection.close()
again = texts(stream(kept | {"request_id": name}))
check_equal(again, call(*COMPLETIONS, SAMPLED | {"max_tokens": 400})[1]["choices"][0]["text"], "a client that came back")

# What ended a text stands in it where that is asked for.
text = whole["choices"][0]["text"]
stop = {"stop": text[12:15]}
end = text.find(stop["stop"])
for fields, wanted in ((stop, text[:end]), (stop | {"include_stop_str_in_output": True}, text[:end + 3])):
    check_equal(call(*COMPLETIONS, SAMPLED | fields)[1]["choices"][0]["text"], wanted, f"text with {fields}")
    check_equal(texts(stream(SAMPLED | fields)), wanted, f"a stream with {fields}")
raw = SAMPLED | {"prompt": rendered, "add_special_tokens": False}
check_equal(call(*COMPLETIONS, raw)[1]["choices"][0]["text"], plain, "a prompt without special tokens")
status, answer = call("POST", "/tokenize", MESSAGES | {"return_token_strs": True})
check_equal((answer["tokens"], answer["count"], answer["max_model_len"]), (ids, len(ids), CONTEXT), "a chat's tokens")
check_equal(len(answer["token_strs"]), len(ids), "tokens as strings")
status, shorter = call("POST", "/tokenize", MESSAGES | {"add_generation_prompt": False})
check(shorter["tokens"] == ids[:shorter["count"]] and shorter["count"] < len(ids), f"{shorter} of {ids}")

# A client that goes away frees what its request held.
connection = connect()
connection.request("POST", "/v1/completions", json.dumps(SAMPLED | {"max_tokens": 200, "stream": True}))
connection.getresponse().readline()
before = server.stats()["requests"]["cancelled"]
connection.close()
server.await_stats(lambda s: s["requests"]["cancelled"] > before or s["requests"]["running"] == 0,
                   "the end of what nobody reads")

# A dead rank costs a pause.
long = SAMPLED | {"max_tokens": 180, "logprobs": 0, "presence_penalty": 0.5}
undisturbed = call("POST", "/v1/completions", long)[1]["choices"][0]
victim = next(pid for (_, rank), pid in server.ranks().items() if rank == 1)
events = stream(long, after_first=lambda _: os.kill(victim, signal.SIGKILL))
check_equal(texts(events), undisturbed["text"], "the text of a stream whose replica died")
check_equal([l for e in events for c in e["choices"] for l in (c["logprobs"] or {}).get("token_logprobs", [])],
            undisturbed["logprobs"]["token_logprobs"], "its logprobs")
check_equal(server.stats()["requests"]["replicas_lost"], 1, "replicas lost")
server.stop()
folder.cleanup()
