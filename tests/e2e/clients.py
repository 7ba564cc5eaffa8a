#!/usr/bin/env python3
"""Clients that others wrote, as their users install them: PyPI's openai and grpcio (by reflection alone:
no file of ours is compiled for it), and curl."""
import asyncio
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

import harness
from harness import Server, check, check_equal, model, run

harness.in_venv("openai==3.54.0", "grpcio==1.85.1", "grpcio-reflection==1.85.1")

import grpc
import openai
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

folder = tempfile.TemporaryDirectory()
directory = pathlib.Path(folder.name) / "austen"
shutil.copytree(model("austen"), directory)
(directory / "chat_template.jinja").write_text(
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}")
keys = pathlib.Path(folder.name) / "keys.txt"
made = run([harness.BINARY, "key", "ops", "--admin"])
keys.write_text(made.stdout)
KEY = made.stderr.split()[-1]
server = Server("--model", str(directory), "--http-addr", "127.0.0.1:0", "--api-keys", str(keys))
BASE = f"http://{server.http_address}"
PROMPT = "It is a truth"
SAMPLED = {"model": "austen", "max_tokens": 24, "seed": 7, "top_p": 0.9}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is Emma?"}]
EXTRA = {"extra_body": {"ignore_eos": True}}


def raises(error, words, call):
    try:
        call()
    except error as e:
        return check(words in str(e), f"expected {words!r} in {e}")
    check(False, f"expected {error.__name__}")


def stats():
    done = run([harness.BINARY, "ctl", "stats", "--server", server.address, "--api-key", KEY])
    return json.loads(done.stdout)["requests"]


# ---- openai, synchronous.
client = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0)
check_equal([m.id for m in client.models.list()], ["austen"], "models")
completion = client.completions.create(prompt=PROMPT, **SAMPLED, **EXTRA)
text = completion.choices[0].text
check_equal((completion.usage.completion_tokens, completion.choices[0].finish_reason), (24, "length"),
            "a completion's usage and end")
chunks = list(client.completions.create(prompt=PROMPT, stream=True, stream_options={"include_usage": True},
                                        **SAMPLED, **EXTRA))
check_equal("".join(c.choices[0].text for c in chunks if c.choices), text, "a completion streamed")
check_equal(chunks[-1].usage, completion.usage, "the usage of a stream")
chat = client.chat.completions.create(messages=MESSAGES, **SAMPLED, **EXTRA)
said = chat.choices[0].message.content
check_equal((chat.choices[0].message.role, chat.usage.completion_tokens), ("assistant", 24), "a chat")
parts = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, MESSAGES[1]]
chunks = list(client.chat.completions.create(messages=parts, stream=True, **SAMPLED, **EXTRA))
check_equal("".join(c.choices[0].delta.content or "" for c in chunks), said, "a chat streamed")
raw = client.chat.completions.with_raw_response.create(messages=MESSAGES, **SAMPLED)
check_equal(raw.status_code, 200, "a raw response's status")

check_equal(chat._request_id, chat.id, "the id of a chat, and of its request")
named = client.chat.completions.create(messages=MESSAGES, extra_headers={"X-Request-Id": "trace-7"}, **SAMPLED)
check(named._request_id == "trace-7" and "trace-7" in named.id, f"{named.id} of {named._request_id}")
try:
    client.chat.completions.create(messages=MESSAGES, **(SAMPLED | {"max_tokens": 100_000}))
except openai.BadRequestError as error:
    check_equal((error.code, error.param), ("context_length_exceeded", "max_tokens"), "what openai makes of an error")
    check(error.request_id.startswith("chatcmpl-"), error.request_id)
else:
    check(False, "max_tokens beyond the context")
raises(openai.BadRequestError, "tool_choice: is not supported", lambda: client.chat.completions.create(
    messages=MESSAGES, tool_choice="required", **SAMPLED))
client.chat.completions.create(messages=MESSAGES, tools=[], functions=[], logit_bias={}, reasoning_effort="low",
                               verbosity="medium", extra_body={"bad_words": []}, **SAMPLED)
raises(openai.NotFoundError, "no model is named",
       lambda: client.completions.create(prompt=PROMPT, **(SAMPLED | {"model": "gpt-4"})))
raises(openai.BadRequestError, "max_tokens is 0",
       lambda: client.completions.create(prompt=PROMPT, **(SAMPLED | {"max_tokens": 0})))
raises(openai.BadRequestError, "temperature",
       lambda: client.chat.completions.create(messages=MESSAGES, temperature=-1, stream=True, **SAMPLED))
stranger = openai.OpenAI(base_url=BASE + "/v1", api_key="sk-nobody", max_retries=0)
raises(openai.AuthenticationError, "key", lambda: stranger.completions.create(prompt=PROMPT, **SAMPLED))

# A stream that its reader leaves ends on the server, too.
before = stats()["cancelled"]
with client.completions.create(prompt=PROMPT, stream=True, **(SAMPLED | {"max_tokens": 200}), **EXTRA) as left:
    next(iter(left))
deadline = time.monotonic() + harness.PATIENCE_S
while (found := stats())["cancelled"] == before and found["running"] > 0:
    check(time.monotonic() < deadline, f"a stream left still runs: {found}")


# ---- openai, asynchronous: many at once.
async def many():
    async with openai.AsyncOpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0) as asynchronous:
        async def streamed():
            stream = await asynchronous.completions.create(prompt=PROMPT, stream=True, **SAMPLED, **EXTRA)
            return "".join([chunk.choices[0].text async for chunk in stream])

        whole = [asynchronous.chat.completions.create(messages=MESSAGES, **SAMPLED, **EXTRA)
                 for _ in range(8)]
        return await asyncio.gather(*[streamed() for _ in range(8)], *whole)

answers = asyncio.run(many())
check_equal(answers[:8], [text] * 8, "streams at once")
check_equal([a.choices[0].message.content for a in answers[8:]], [said] * 8, "chats at once")

# ---- grpcio: what reflection tells is enough to call.
channel = grpc.insecure_channel(server.address)
metadata = [("authorization", f"Bearer {KEY}")]
database = ProtoReflectionDescriptorDatabase(channel)
services = set(database.get_services())
check({"trireme.v1.Inference", "trireme.v1.Control", "grpc.health.v1.Health"} <= services, services)
pool = descriptor_pool.DescriptorPool(database)


def method(service, name):
    """A method as a callable, and the class of its requests."""
    found = pool.FindServiceByName(service).FindMethodByName(name)
    request, response = map(message_factory.GetMessageClass, (found.input_type, found.output_type))
    make = channel.unary_stream if found.server_streaming else channel.unary_unary
    return make(f"/{service}/{name}", request.SerializeToString, response.FromString), request


generate, GenerateRequest = method("trireme.v1.Inference", "Generate")
request = GenerateRequest(text=PROMPT, max_tokens=24, seed=7, top_p=0.9, ignore_eos=True)
events = list(generate(request, metadata=metadata))
check_equal(events[0].WhichOneof("event"), "accepted", "the first event")
check_equal("".join(e.delta.text for e in events), text, "text over grpcio and over openai")
check_equal(events[-1].finished.usage.completion_tokens, 24, "usage over grpcio")
tokenize, TokenizeRequest = method("trireme.v1.Inference", "Tokenize")
ids = tokenize(TokenizeRequest(text=PROMPT), metadata=[("authorization", f"bearer {KEY}")]).ids
check_equal(len(ids), completion.usage.prompt_tokens, "tokens of the prompt")
get_stats, GetStatsRequest = method("trireme.v1.Control", "GetStats")
check(get_stats(GetStatsRequest(), metadata=metadata).requests.finished >= 20, "GetStats")
health, HealthCheckRequest = method("grpc.health.v1.Health", "Check")
check_equal(health(HealthCheckRequest()).status, 1, "health: SERVING")


def status_of(call):
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


StatusCode = grpc.StatusCode
check_equal(status_of(generate(GenerateRequest(text=PROMPT), metadata=[])), StatusCode.UNAUTHENTICATED, "no key")
check_equal(status_of(generate(GenerateRequest(text=PROMPT, max_tokens=0), metadata=metadata)),
            StatusCode.INVALID_ARGUMENT, "max_tokens of 0")
check_equal(status_of(generate(GenerateRequest(text=PROMPT, model="x"), metadata=metadata)),
            StatusCode.NOT_FOUND, "no such model")
call = generate(GenerateRequest(text=PROMPT, max_tokens=200, ignore_eos=True), metadata=metadata)
next(call)
call.cancel()
check_equal(status_of(call), StatusCode.CANCELLED, "a call that its client ends")


# ---- curl.
def curl(path, *args, body=None, key=KEY):
    """(status, what it printed, its log); `body` goes by stdin."""
    data = [] if body is None else ["--data-binary", "@-"]
    done = subprocess.run(["curl", "--silent", "--show-error", "--max-time", "60", "--write-out",
                           "\n%{http_code}", *([] if key is None else ["--header", f"Authorization: Bearer {key}"]),
                           *args, *data, BASE + path], input=body, capture_output=True, text=True, timeout=90)
    check_equal(done.returncode, 0, f"curl {path}: {done.stderr}")
    output, _, status = done.stdout.rpartition("\n")
    return int(status), output, done.stderr


body = SAMPLED | {"prompt": PROMPT, "ignore_eos": True}
for version in ("--http1.1", "--http1.0"):
    status, output, _ = curl("/v1/completions", version, body=json.dumps(body))
    check_equal((status, json.loads(output)["choices"][0]["text"]), (200, text), f"curl {version}")
    status, output, _ = curl("/v1/completions", version, "--no-buffer", body=json.dumps(body | {"stream": True}))
    events = [line[6:] for line in output.splitlines() if line.startswith("data: ")]
    check_equal(events.pop(), "[DONE]", f"the end of a stream, curl {version}")
    check_equal("".join(json.loads(e)["choices"][0]["text"] for e in events), text, f"a stream, curl {version}")
status, output, _ = curl("/v1/completions", "--header", "Transfer-Encoding: chunked", body=json.dumps(body))
check_equal((status, json.loads(output)["choices"][0]["text"]), (200, text), "a request in chunks")
status, _, log = curl("/v1/completions", "--verbose", "--header", "Expect: 100-continue",
                      body=json.dumps(body | {"prompt": "x " * 200_000}))
check("HTTP/1.1 100 Continue" in log, f"curl waits for the server to say that it may go on:\n{log}")
check_equal(status, 400, "a prompt beyond the context")
status, _, _ = curl("/health", "--head")
check_equal(status, 200, "HEAD /health")
status, output, _ = curl("/v1/completions", key="x", body=json.dumps(body))
check_equal((status, json.loads(output)["error"]["code"]), (401, "invalid_api_key"), "another key by curl")
status, _, _ = curl("/v1/models", "--header", f"authorization: bearer {KEY}", key=None)
check_equal(status, 200, "the scheme in lower case")
server.stop()
folder.cleanup()
