"""Real processes for the end-to-end tests: run the binary, serve, and see that nothing is left.

The binary is $TRIREME_BINARY. A test calls skip(why) where what it needs is absent.
"""
import ctypes
import hashlib
import json
import os
import pathlib
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import venv

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TRIREME_BINARY", str(SOURCE / "build" / "trireme"))
PATIENCE_S = 120  # before a test gives up on an event; never a wait that passes

MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TRIREME_")} | MPI_ENV

# What a killed parent leaves behind becomes our child, so that it can be found: see leftovers().
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def skip(why):
    print(why)
    sys.exit(77)


def in_venv(*packages):
    """Goes on with these packages of PyPI, in a virtual environment that is kept beside the binary."""
    name = hashlib.sha256(" ".join([sys.version, *packages]).encode()).hexdigest()[:12]
    folder = pathlib.Path(BINARY).resolve().parent / "venv" / name
    python, complete = folder / "bin" / "python3", folder / "complete"
    if sys.prefix == str(folder):
        return
    if not complete.exists():
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                               *packages], capture_output=True, text=True)
        if done.returncode != 0:
            skip(f"PyPI's packages cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        complete.touch()
    os.execv(python, [str(python), "-u", *sys.argv])


def model(name):
    """The directory of `austen` (bundled) or `stories260k` (skips where it is absent)."""
    bundled = SOURCE / "examples" / "models" / name
    shared = SOURCE.parent / "shared" / "models" / name
    if bundled.is_dir():
        return str(bundled)
    if not shared.is_dir():
        skip(f"{shared} is not there")
    return str(shared)


def config(directory):
    return json.loads((pathlib.Path(directory) / "config.json").read_text())


def endless(directory, folder):
    """The model with room for a million tokens: a request that only its client ends."""
    copy = pathlib.Path(folder) / "endless"
    copy.mkdir()
    for file in pathlib.Path(directory).iterdir():
        if file.name != "config.json":
            (copy / file.name).symlink_to(file)
    longer = config(directory) | {"max_position_embeddings": 1_000_000}
    (copy / "config.json").write_text(json.dumps(longer))
    return str(copy)


def check(condition, message):
    if not condition:
        print(f"FAILED: {message}", flush=True)
        raise SystemExit(1)


def check_equal(found, expected, what):
    check(found == expected, f"{what}:\n  found    {found}\n  expected {expected}")


def mpirun(n, *args):
    return ["mpirun", "-n", str(n), "--oversubscribe", "--bind-to", "none", BINARY, *args]


def run(command, *, code=0, env=None, stdin=None, cwd=None):
    """The finished process; fails unless it exits with `code` (None: any)."""
    done = subprocess.run(command, env=ENV | (env or {}), input=stdin, cwd=cwd, text=True,
                          capture_output=True, timeout=PATIENCE_S)
    if code is not None and done.returncode != code:
        print(done.stdout + done.stderr)
        check(False, f"{' '.join(command)} exited with {done.returncode}, expected {code}")
    return done


def generate(*args, ranks=1, env=None):
    """The one JSON object of `trireme generate … --json`."""
    command = ["generate", *args, "--json"]
    done = run(mpirun(ranks, *command) if ranks > 1 else [BINARY, *command], env=env)
    lines = done.stdout.splitlines()
    check(len(lines) == 1, f"expected one line of JSON:\n{done.stdout}")
    return json.loads(lines[0])


class Lines:
    """A process whose stdout and stderr are read as they come."""

    def __init__(self, command, env=None):
        self.command = command
        self.process = subprocess.Popen(command, env=ENV | (env or {}), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.log = []  # of stderr
        self.out = queue.Queue()
        self.readers = [threading.Thread(target=self._read_out, daemon=True),
                        threading.Thread(target=self._read_log, daemon=True)]
        for reader in self.readers:
            reader.start()

    def _read_out(self):
        for line in self.process.stdout:
            self.out.put(line.rstrip("\n"))
        self.out.put(None)

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def next_line(self):
        """The next line of stdout; None at its end."""
        try:
            return self.out.get(timeout=PATIENCE_S)
        except queue.Empty:
            self.fail("no output")

    def wait_for_log(self, text, after=0):
        """The first line of the log from index `after` on that holds `text`."""
        deadline = time.monotonic() + PATIENCE_S
        seen = after
        while time.monotonic() < deadline:
            while seen < len(self.log):
                if text in self.log[seen]:
                    return self.log[seen]
                seen += 1
            if not self.readers[1].is_alive() and seen == len(self.log):
                break
            self.readers[1].join(0.02)
        self.fail(f"the log never said {text!r}")

    def fail(self, what):
        print("\n".join(self.log))
        self.process.kill()
        check(False, f"{' '.join(self.command)}: {what}")

    def wait(self, code=0):
        """The rest of stdout, once the process has exited with `code` (None: any)."""
        rest = []
        while (line := self.next_line()) is not None:
            rest.append(line)
        found = self.process.wait(PATIENCE_S)
        for reader in self.readers:
            reader.join()
        if code is not None and found != code:
            self.fail(f"exited with {found}, expected {code}")
        return rest


class Controller(Lines):
    """`trireme controller` at self.address. `around` may run a command elsewhere."""

    COMMAND = "controller"

    def __init__(self, *args, env=None, grpc_addr="127.0.0.1:0", around=lambda command: command):
        self.around = around
        super().__init__(around([BINARY, self.COMMAND, "--grpc-addr", grpc_addr, *args]), env)
        self.address = self._expect("listening ")

    def _expect(self, start):
        line = self.next_line()
        if line is None or not line.startswith(start):
            self.wait(code=None)
            self.fail(f"expected `{start}…`, got {line!r}")
        return line[len(start):]

    def stats(self):
        return json.loads(run(self.around([BINARY, "ctl", "stats", "--server", self.address])).stdout)

    def await_stats(self, wanted, what):
        """The first statistics that `wanted` accepts."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(stats := self.stats()):
            if time.monotonic() > deadline:
                self.fail(f"the statistics never showed {what}: {stats}")
        return stats


class Server(Controller):
    """`trireme serve`, ready for requests."""

    COMMAND = "serve"

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if "--http-addr" in args:
            self.http_address = self._expect("http ")
        if "--admin-addr" in args:
            self.admin_address = self._expect("admin ")
        self._expect("ready ")

    def client(self, *args):
        return [BINARY, "generate", "--server", self.address, *args]

    def generate(self, *args):
        return json.loads(run(self.client(*args, "--json")).stdout)

    def ranks(self):
        """{(replica's mpirun, rank): pid} of the workers that run now."""
        found = {}
        for pid in descendants(self.pid):
            rank = environment(pid).get("OMPI_COMM_WORLD_RANK")
            if rank is not None and "worker" in command_line(pid):
                found[parent(pid), int(rank)] = pid
        return found

    def stop(self):
        """Ends it as a user would; fails if it leaves a process behind."""
        self.process.send_signal(signal.SIGTERM)
        self.wait()
        check_no_leftovers()


def read_proc(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def command_line(pid):
    return read_proc(pid, "cmdline").split("\0")


def environment(pid):
    return dict(entry.split("=", 1) for entry in read_proc(pid, "environ").split("\0") if "=" in entry)


def parent(pid):
    fields = read_proc(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else -1


def descendants(root):
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(parent(entry), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def await_end(pid, patience_s=PATIENCE_S):
    """Waits until a process, anybody's, has ended; a zombie has."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([fd], [], [], patience_s)
    os.close(fd)
    check(ended, f"process {pid} still runs: {' '.join(command_line(pid))}")


def check_no_leftovers():
    """All that this test started has ended, or does so now: orphans are our children by now."""
    for pid in descendants(os.getpid()):
        await_end(pid, patience_s=10)
