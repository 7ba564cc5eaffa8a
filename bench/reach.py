#!/usr/bin/env python3
"""How far one controller reaches, on this machine, with a replica that only pretends to compute.

    bench/reach.py [--build build] [--streams 10000] [--quick]

Each case starts a controller and a paced replica (tests/bench/paced_replica.cc), loads the controller
with `trireme bench serve` over real sockets, and prints the figure beside what is to be reached:

  streams  that many server-sent streams at once by TLS, prompts of 1000 tokens, a token every 2 s: memory
  small    500 requests/s of one token each, over gRPC and over HTTP
  beside   what the controller adds, by its own clock (arrival to hand-over, tokenizing included), to
           250 requests/s of a sentence and one token, while four other clients post prompts of 1 MB
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(SOURCE / "tests" / "e2e"))
from certificates import Certificate  # noqa: E402

MODEL = SOURCE / "examples" / "models" / "austen"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", default=str(SOURCE / "build"))
parser.add_argument("--streams", type=int, default=10_000)
parser.add_argument("--cases", default="streams,small,beside")
parser.add_argument("--quick", action="store_true", help="a tenth of the load; no figure counts")
options = parser.parse_args()
TRIREME = str(pathlib.Path(options.build) / "trireme")
REPLICA = str(pathlib.Path(options.build) / "tests" / "bench" / "paced_replica")
SCALE = 0.1 if options.quick else 1
folder = tempfile.TemporaryDirectory()


class Controller:
    """A controller with a paced replica; `tls`: that is how it is dialled."""

    def __init__(self, seconds_per_token, tls=False):
        shows, trusts = [], []
        if tls:
            authority = Certificate("authority")
            shows, trusts = Certificate("server", authority).flags(), [str(authority.cert), "llm.test"]
        self.tls = ["--tls-ca", trusts[0], "--tls-server-name", trusts[1]] if tls else []
        self.process = subprocess.Popen(
            [TRIREME, "controller", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0",
             "--max-requests", "20000", "--log-level", "warn", *shows], stdout=subprocess.PIPE, text=True)
        self.address = {"grpc": self.read("listening "), "http": self.read("http ")}
        self.replica = subprocess.Popen([REPLICA, self.address["grpc"], str(seconds_per_token), MODEL, *trusts])
        self.read("ready ")
        self.idle_mib = self.memory("VmRSS")

    def read(self, start):
        line = self.process.stdout.readline()
        if not line.startswith(start):
            sys.exit(f"expected `{start}…` of the controller, got {line!r}")
        return line[len(start):].strip()

    def memory(self, name):
        """MiB: VmRSS now, VmHWM at most."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def running(self):
        done = subprocess.run([TRIREME, "ctl", "stats", "--server", self.address["grpc"], *self.tls],
                              stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)["requests"]["running"]

    def bench(self, protocol, *args):
        """The figures of one run, and the share of a processor that the controller took meanwhile."""
        file = pathlib.Path(folder.name) / f"{protocol}-{threading.get_ident()}.json"
        before, begin = self.cpu_seconds(), time.monotonic()
        done = subprocess.run([TRIREME, "bench", "serve", "--server", self.address[protocol], "--protocol",
                               protocol, "--json-file", str(file), *self.tls, *map(str, args)],
                              stdout=subprocess.PIPE, text=True)
        cpu = (self.cpu_seconds() - before) / (time.monotonic() - begin)
        if done.returncode != 0:
            print(done.stdout)
        return json.loads(file.read_text())["runs"][0] | {"controller_cpu": cpu}

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.replica.terminate()
        self.replica.wait()
        if self.process.returncode != 0:
            sys.exit(f"the controller exited with {self.process.returncode}")


def say(case, figure, wanted, good):
    print(f"{case:10} {figure}   (to reach: {wanted}){'' if good or options.quick else '   MISSED'}", flush=True)


def errors(run):
    return "".join(f", {e['n']} failed: {kind}: {e['example']}" for kind, e in run["errors"].items())


def streams():
    n = int(options.streams * SCALE)
    controller = Controller(seconds_per_token=2, tls=True)
    most = 0
    ramp_s = None  # until nearly all were there
    stop = threading.Event()
    begin = time.monotonic()

    def watch():
        nonlocal most, ramp_s
        while not stop.wait(1):
            most = max(most, controller.running())
            if ramp_s is None and most >= 0.99 * n:
                ramp_s = time.monotonic() - begin

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = controller.bench("http", "--concurrency", n, "--requests", n, "--prompt-tokens", 1000,
                           "--output-tokens", 30)
    stop.set()
    watcher.join()
    peak = controller.memory("VmHWM")
    ramp = "never" if ramp_s is None else f"after {ramp_s:.0f} s"
    say("streams", f"{most} of {n} TLS streams at once, 99% of them {ramp}; {run['ok']} ended well{errors(run)}; controller "
        f"{peak:.0f} MiB at most, {controller.idle_mib:.0f} before, "
        f"{(peak - controller.idle_mib) * 1024 / max(most, 1):.1f} KiB a stream; "
        f"{100 * run['controller_cpu']:.0f}% of a CPU; TBT p50 {1e3 * run['tbt_s']['p50']:.0f} ms, "
        f"p99 {1e3 * run['tbt_s']['p99']:.0f} ms", f"{n} streams within 1024 MiB",
        run["ok"] == n and most >= 0.99 * n and peak < 1024)
    controller.stop()


def small():
    for protocol in ("grpc", "http"):
        controller = Controller(seconds_per_token=0.001)
        rate = 500 * SCALE
        run = controller.bench(protocol, "--rate", rate, "--duration", "20s", "--prompt-tokens", 32,
                               "--output-tokens", 1, "--warmup", 50)
        say("small", f"{protocol} {run['qps']:.0f} requests/s of {rate:.0f}{errors(run)}; end to end p50 "
            f"{1e3 * run['e2e_s']['p50']:.2f} ms, p99 {1e3 * run['e2e_s']['p99']:.2f} ms; "
            f"{100 * run['controller_cpu']:.0f}% of a CPU", f"{rate:.0f} requests/s",
            run["qps"] > 0.97 * rate and run["failed"] == 0)
        controller.stop()


def beside():
    controller = Controller(seconds_per_token=0.001)
    text = (SOURCE / "README.md").read_text()

    def trace(name, n_bytes):
        file = pathlib.Path(folder.name) / name
        prompt = (text * (1 + n_bytes // len(text)))[:n_bytes]
        file.write_text(json.dumps({"prompt": prompt, "output_length": 1}) + "\n")
        return file

    large = threading.Thread(target=lambda: figures.append(controller.bench(
        "http", "--trace", trace("large", 2**20), "--concurrency", 4, "--duration", "22s")))
    figures = []
    for case in ("alone", "beside"):
        if case == "beside":
            large.start()
            time.sleep(1)  # they are under way
        run = controller.bench("grpc", "--trace", trace("small", 150), "--rate", 250 * SCALE,
                               "--duration", "20s", "--warmup", 50)
        added = run["server_queue_s"]
        say(case, f"{run['qps']:.0f} requests/s{errors(run)}; added p50 {1e3 * added['p50']:.3f} ms, "
            f"p90 {1e3 * added['p90']:.3f} ms, p99 {1e3 * added['p99']:.3f} ms; end to end p50 "
            f"{1e3 * run['e2e_s']['p50']:.2f} ms, p99 {1e3 * run['e2e_s']['p99']:.2f} ms; "
            f"{100 * run['controller_cpu']:.0f}% of a CPU", "p50 < 1 ms, p99 < 5 ms",
            added["p50"] < 1e-3 and added["p99"] < 5e-3 and run["failed"] == 0)
    large.join()
    print(f"           the others: {figures[0]['ok']} prompts of 1 MB in {figures[0]['seconds']:.0f} s"
          f"{errors(figures[0])}, TTFT p50 {1e3 * figures[0]['ttft_s']['p50']:.0f} ms")
    controller.stop()


for case in options.cases.split(","):
    {"streams": streams, "small": small, "beside": beside}[case]()
