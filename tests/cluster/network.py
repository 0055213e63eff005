"""Two hosts, as network namespaces of this machine, and the cable between them, which can be cut."""

import os
import shutil
import subprocess

ADDRESSES = ("10.77.0.1", "10.77.0.2")
INTERFACE = "cable"


class NoNamespacesError(Exception):
    """Network namespaces cannot be had here, and why."""


class Hosts:
    """Hosts 0 and 1; a command `on` one of them sees no interface but the cable and its own loopback."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise NoNamespacesError("network namespaces need root and `ip` (apt-get install iproute2)")
        self.names = [f"host{number}-{os.getpid()}" for number in range(2)]
        try:
            for name in self.names:
                ip("netns", "add", name)
            ip(
                "link",
                "add",
                INTERFACE,
                "netns",
                self.names[0],
                "type",
                "veth",
                "peer",
                "name",
                INTERFACE,
                "netns",
                self.names[1],
            )
            for number, address in enumerate(ADDRESSES):
                self.ip(number, "address", "add", f"{address}/24", "dev", INTERFACE)
                self.ip(number, "link", "set", "lo", "up")
            self.heal()
        except subprocess.CalledProcessError as why:
            self.remove()
            raise NoNamespacesError(why.stderr.strip()) from None

    def on(self, host: int) -> tuple[str, ...]:
        """What goes before a command."""
        return "ip", "netns", "exec", self.names[host]

    def ip(self, host: int, *arguments: str) -> None:
        ip("-netns", self.names[host], *arguments)

    def cut(self) -> None:
        self.ip(0, "link", "set", INTERFACE, "down")

    def heal(self) -> None:
        for host in range(2):
            self.ip(host, "link", "set", INTERFACE, "up")

    def remove(self) -> None:
        """The cable goes with them."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
