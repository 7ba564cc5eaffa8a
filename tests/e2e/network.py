"""Hosts for the end-to-end tests: network namespaces with host names of their own on one switch."""
import os
import pathlib

from harness import run, skip

TAG = f"trireme{os.getpid()}"
NET = "10.77.0"


def ip(*args):
    run(["ip", *args])


def namespace(host):
    return f"{TAG}-{host}"


class Network:
    """Each host has an interface `eth` with an address of its own; `with` takes all of it down."""

    def __init__(self, *hosts):
        if os.geteuid() != 0:
            skip("network namespaces need root")
        self.hosts = hosts

    def __enter__(self):
        made = run(["ip", "netns", "add", namespace("switch")], code=None)
        if made.returncode != 0:
            skip(f"no network namespace can be made here: {made.stderr.strip()}")
        entered = run(["ip", "netns", "exec", namespace("switch"), "true"], code=None)
        if entered.returncode != 0:
            self.__exit__()
            skip(f"no network namespace can be entered here: {entered.stderr.strip()}")
        ip("-n", namespace("switch"), "link", "add", "bridge0", "type", "bridge")
        ip("-n", namespace("switch"), "link", "set", "bridge0", "up")
        for host in self.hosts:
            ip("netns", "add", namespace(host))
            # The kernel's own names keep parallel runs apart: both ends are made inside.
            ip("-n", namespace(host), "link", "add", "eth", "type", "veth", "peer", "name",
               f"port{host}", "netns", namespace("switch"))
            ip("-n", namespace("switch"), "link", "set", f"port{host}", "up")
            self.heal(host)
            ip("-n", namespace(host), "addr", "add", f"{self.address(host)}/24", "dev", "eth")
            ip("-n", namespace(host), "link", "set", "eth", "up")
            ip("-n", namespace(host), "link", "set", "lo", "up")
        return self

    def __exit__(self, *exception):
        for host in [*self.hosts, "switch"]:
            run(["ip", "netns", "del", namespace(host)], code=None)

    def address(self, host):
        return f"{NET}.{1 + self.hosts.index(host)}"

    def on(self, host, command):
        """The command in the host's network, under its name."""
        return ["ip", "netns", "exec", namespace(host), "unshare", "--uts", "sh", "-c",
                f'hostname node{host}; exec "$@"', "sh", *command]

    def cut(self, host):
        """The switch drops what comes from the host and what is for it. Its link stays up."""
        ip("-n", namespace("switch"), "link", "set", f"port{host}", "nomaster")

    def heal(self, host):
        ip("-n", namespace("switch"), "link", "set", f"port{host}", "master", "bridge0")

    def launch_args(self, folder, *hosts):
        """Of mpirun: a rank on each of the hosts, over TCP."""
        # What mpirun calls as `ssh HOST COMMAND`: enters the other namespace.
        agent = pathlib.Path(folder) / "agent"
        agent.write_text(
            "#!/bin/sh\nhost=$1; shift\n"
            f'exec ip netns exec {TAG}-${{host#node}} unshare --uts '
            'sh -c "hostname $host; exec sh -c \\"\\$1\\"" - "$*"\n')
        agent.chmod(0o755)
        return (f"-H {','.join(f'node{host}:1' for host in hosts)} --mca plm_rsh_agent {agent} "
                f"--mca btl tcp,self --mca btl_tcp_if_include {NET}.0/24 "
                f"--mca oob_tcp_if_include {NET}.0/24")
