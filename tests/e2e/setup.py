#!/usr/bin/env python3
"""scripts/setup on systems that are not this one: a PATH of fakes beside the few tools it uses."""
import pathlib
import shutil
import tempfile

from harness import SOURCE, check, check_equal, run

TOOLS = ["bash", "env", "dirname", "sed", "comm", "sort", "mktemp", "rm", "grep", "head", "tail", "awk"]
BUILD_TOOLS = ["g++", "cmake", "ninja", "mpirun", "protoc"]
LISTED = (SOURCE / "scripts" / "packages.txt").read_text().splitlines()
PACKAGES = [line.strip() for line in LISTED if line.strip() and not line.startswith("#")]

# apt-get without a network: the index is not there, and cannot be had.
NO_NETWORK = """
case $* in
*update*)
  echo "Err:1 http://deb.debian.org/debian bookworm InRelease"
  echo "  Temporary failure resolving 'deb.debian.org'"
  echo "W: Some index files failed to download. They have been ignored, or old ones used instead." ;;
*) echo "E: Unable to locate package ninja-build"; echo "E: Unable to locate package zzz"; exit 100 ;;
esac"""


def setup(code, fakes, system='ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n'):
    """stderr of scripts/setup where `fakes` (name: what the shell script does) are the commands."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        for tool in TOOLS:
            (path / tool).symlink_to(shutil.which(tool))
        for name, script in fakes.items():
            (path / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
            (path / name).chmod(0o755)
        (path / "os-release").write_text(system)
        done = run([str(SOURCE / "scripts" / "setup")], code=code,
                   env={"PATH": folder, "TRIREME_OS_RELEASE": str(path / "os-release")})
        check(code == 0 or done.stderr.count("\n") == 1, f"not one line: {done.stderr}")
        return done.stdout + done.stderr


def installed(packages):
    return "\n".join(f"echo installed {package}" for package in packages)


some = {"dpkg-query": installed(set(PACKAGES) - {"ninja-build"})}
root, user = {"id": "echo 0"}, {"id": "echo 1000"}

# Nothing is missing: nothing is said or done.
check_equal(setup(0, {"dpkg-query": installed(PACKAGES), "apt-get": "echo called; exit 1"}), "",
            "output where nothing is missing")

# What is missing is installed; from a fresh index, if the old one does not do.
check_equal(setup(0, {**some, **root, "apt-get": "exit 0"}), "setup: installing ninja-build\n", "install")
stale = 'case $* in *update*) echo >"$0.fresh";; *) [ -e "$0.fresh" ];; esac'
setup(0, {**some, **root, "apt-get": stale})

# Another system, with apt or without.
unsupported = setup(1, {**some, **root, "apt-get": "exit 0"}, 'ID=ubuntu\nPRETTY_NAME="Ubuntu 24"\n')
check_equal(unsupported, "setup: Debian 12 is supported, this is Ubuntu 24; missing here: ninja-build\n",
            "another system")
there = {tool: "" for tool in BUILD_TOOLS}
check_equal(setup(0, there), "", "output without apt where the tools are there")
del there["mpirun"], there["protoc"]
check_equal(setup(1, there), "setup: this system has no apt and lacks mpirun protoc: install the "
            "equivalents of the packages in scripts/packages.txt by hand\n", "without apt and tools")

# No way to install.
check_equal(setup(1, {**some, **user, "apt-get": "exit 0"}), "setup: run as root, or install sudo: "
            "these packages are missing: ninja-build\n", "neither root nor sudo")
check_equal(setup(0, {**some, **user, "apt-get": '[ "$SUDO" ]', "sudo": 'export SUDO=1; exec "$@"'}),
            "setup: installing ninja-build\n", "with sudo")

# No network: the first cause is told.
check_equal(setup(1, {**some, **root, "apt-get": NO_NETWORK}),
            "setup: installing ninja-build\nsetup: apt-get could not install ninja-build (is the "
            "network up?): Temporary failure resolving 'deb.debian.org'\n", "without a network")
check_equal(setup(1, {**some, **root, "apt-get": "echo E: no space left; exit 100"}).splitlines()[-1],
            "setup: apt-get could not install ninja-build (is the network up?): E: no space left",
            "another error")
