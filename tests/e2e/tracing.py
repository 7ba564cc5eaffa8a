#!/usr/bin/env python3
"""Traces: the caller's goes on, a collector is told of each request's spans, and none is needed.
The log as JSON."""
import http.server
import json
import os
import queue
import signal
import tempfile
import threading
import urllib.request

from harness import PATIENCE_S, Lines, Server, check, check_equal, endless, model

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
spans = queue.Queue()


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        check_equal(self.path, "/v1/traces", "the collector's path")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in body["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    spans.put(span)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=collector.serve_forever, daemon=True).start()


def post(stream, trace=True):
    """The traceparent of the answer, once it is whole."""
    body = {"prompt": "It was", "max_tokens": 5, "temperature": 0, "stream": stream}
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"} if trace else {}
    request = urllib.request.Request(f"http://{server.http_address}/v1/completions",
                                     json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        answer.read()
        return answer.headers["traceparent"]


def next_spans():
    """Those of one request, by name; the whole's is `request`."""
    found = {}
    while len(found) < 4:
        span = spans.get(timeout=PATIENCE_S)
        found["request" if "austen" in span["name"] else span["name"]] = span
    return found


def attributes(span):
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


# One that is cancelled has the phases that it came to, and the loss of its replica as an event.
folder = tempfile.TemporaryDirectory()
longer = Server("--model", endless(model("austen"), folder.name), "--served-model-name", "austen",
                "--otlp-endpoint", f"http://127.0.0.1:{collector.server_port}")
client = Lines(longer.client("--prompt", "It was", "--ignore-eos", "--temperature", "0"))
longer.await_stats(lambda s: s["requests"]["completion_tokens"] > 5, "a request under way")
rank, = longer.ranks().values()
os.kill(rank, signal.SIGKILL)
longer.await_stats(lambda s: s["requests"]["replayed"] == 1, "the request on the next replica")
client.process.send_signal(signal.SIGINT)
client.wait(code=130)
found = next_spans()
check_equal(set(found), {"queue", "prefill", "decode", "request"}, "spans of a cancelled request")
request = found["request"]
ends = attributes(request)
check_equal((ends["error.type"], ends["trireme.replays"]), ("CANCELLED", "1"), "the end")
check(int(ends["gen_ai.usage.output_tokens"]) > 5, "tokens until then")
check_equal([e["name"] for e in request["events"]], ["replica lost", "replayed"], "events")
times = [request["startTimeUnixNano"], *(e["timeUnixNano"] for e in request["events"]), request["endTimeUnixNano"]]
check_equal(times, sorted(times, key=int), "events within the request")
longer.stop()
folder.cleanup()

server = Server("--model", model("austen"), "--tp", "2", "--http-addr", "127.0.0.1:0",
                "--log-format", "json", "--otlp-endpoint", f"http://127.0.0.1:{collector.server_port}")
for stream in (False, True):
    version, trace, span, flags = post(stream).split("-")
    check_equal((version, trace, flags), ("00", TRACE, "01"), "traceparent of the answer")
    found = next_spans()
    check_equal({s["traceId"] for s in found.values()}, {TRACE}, "trace of the spans")
    request = found["request"]
    check_equal((request["spanId"], request["parentSpanId"]), (span, CALLER), "place in the trace")
    usage = attributes(request)
    host, _, port = server.http_address.rpartition(":")
    for key, value in {"gen_ai.request.model": "austen", "gen_ai.response.model": "austen",
                       "gen_ai.usage.output_tokens": "5", "server.address": host, "server.port": port,
                       "trireme.replays": "0"}.items():
        check_equal(usage[key], value, key)
    check("events" not in request, f"nothing happened: {request}")
    phases = [found[name] for name in ("queue", "prefill", "decode")]
    check_equal({s["parentSpanId"] for s in phases}, {span}, "parent of the phases")
    times = [int(s[f"{end}TimeUnixNano"]) for s in phases for end in ("start", "end")]
    check_equal(times, sorted(times), "one phase after the other")
    print(json.dumps(request))
check(TRACE not in post(False, trace=False), "a request without a trace begins one")
next_spans()
server.generate("--prompt", "It was", "--max-tokens", "5")
check_equal(len(next_spans()), 4, "spans of a request over gRPC")

# Without the collector requests go on; the log says so once.
collector.shutdown()
collector.server_close()
for _ in range(3):
    post(False)
server.wait_for_log("takes none")
post(False)
server.stop()
said = [line for line in server.log if "takes none" in line]
check_equal(len(said), 1, f"lines about the collector: {said}")

lines = [json.loads(line) for line in server.log]
for line in lines:
    check({"ts", "level", "role", "message"} <= line.keys(), line)
check_equal({line["role"] for line in lines}, {"controller", "worker"}, "roles")
ranks = {(line["replica"], line["rank"]) for line in lines if line["role"] == "worker"}
check((0, 0) in ranks, f"ranks: {ranks}")
check(not any("It was" in line["message"] for line in lines), "a prompt in the log")
print(said[0])
