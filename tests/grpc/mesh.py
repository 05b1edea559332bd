"""The meshes of a run: for each server a process of the binary with two routers, and the servers themselves.

`Mesh.ways` is how calls go: through the incoming router alone, or through both. Not for: what is called.
"""

import os
import subprocess
import sys

from servers import answers, free_port

from lab import Router
from wire import eventually

HERE = os.path.dirname(os.path.abspath(__file__))

# Where the calls of the interop clients lead, whatever they name; those of our own peer are looked up in files.
STATIC = "/svc/* => /$/inet/127.0.0.1/{port} ;"
BY_FILES = "/svc => /#/io.l5d.fs ;"


class Server:
    """A program that serves on a port; `port` 0: it prints its port."""

    def __init__(self, folder, name, command, port=0, **environment):
        self.name = name
        with open(os.path.join(folder, f"{name}.log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, text=True,
                                            stdout=log if port else subprocess.PIPE, env={**os.environ, **environment})
        self.port = port or int(self.process.stdout.readline() or 0)
        if not self.port:
            raise RuntimeError(f"{name} does not start; see {folder}/{name}.log")
        eventually(f"{name} listens", lambda: answers(self.port), 60)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Mesh:
    """One process with the routers `outgoing` and `incoming`, towards one port or towards files."""

    def __init__(self, binary, folder, name, secure, certs, port=None):
        self.secure = secure
        kind = "tls" if secure else "plain"
        dtab = BY_FILES if port is None else STATIC.format(port=port)
        with open(os.path.join(HERE, f"mesh-{kind}.yaml"), encoding="utf-8") as file:
            config = file.read()
        self.router = Router(binary, folder, f"mesh-{name}-{kind}", config, ["admin", "outgoing", "incoming"], "INFO",
                             dtab=dtab, certs=certs)
        kind = "TLS" if secure else "plain"
        self.ways = {f"one, {kind}": self.router.ports["incoming"], f"two, {kind}": self.router.ports["outgoing"]}

    def problems(self):
        """What is wrong with the process after a run."""
        if self.router.process.poll() is not None:
            return f"the process ended with {self.router.process.returncode}: {self.router.logged()[-500:]}"
        return "a panic is in the log" if "panicked" in self.router.logged() else ""

    def stop(self):
        self.router.stop()


class Site:
    """Everything that a run starts: certificates, servers, meshes. Ends all of it by `stop`."""

    def __init__(self, binary, folder, tools):
        self.binary, self.folder, self.tools, self.started, self.meshes = binary, folder, tools, [], []
        self.certs = os.path.join(folder, "certs")

    def keep(self, one):
        self.started.append(one)
        return one

    def files(self, secure):
        """Certificate and key of every server and of the listeners."""
        return [os.path.join(self.certs, "mesh.pem"), os.path.join(self.certs, "mesh.key")] if secure else []

    def authority(self, secure):
        return [os.path.join(self.certs, "ca.pem")] if secure else []

    def mesh(self, name, secure, port=None):
        found = self.keep(Mesh(self.binary, self.folder, name, secure, self.certs, port))
        self.meshes.append((f"{name}, {'TLS' if secure else 'plain'}", found))
        return found

    def server(self, name, secure):
        """One of the interop servers or the web server, or None when this machine has it not."""
        kind, files, tools = f"{name}-{'tls' if secure else 'plain'}", self.files(secure), self.tools
        start = lambda command, *more, **rest: self.keep(Server(self.folder, kind, command, *more, **rest))
        flags = ["-cert", files[0], "-key", files[1]] if secure else []
        if name == "go" and tools.interop_server:
            port = free_port()
            given = ["-use_tls", "-tls_cert_file", files[0], "-tls_key_file", files[1]] if secure else []
            return start([tools.interop_server, "-port", str(port), *given], port)
        if name == "python" and tools.python:
            return start([tools.python, os.path.join(HERE, "peers", "python", "peer.py"), "serve", *files])
        if name == "node" and tools.node:
            return start([tools.node[0], os.path.join(HERE, "peers", "node", "peer.js"), "serve", *files],
                         NODE_PATH=tools.node[1])
        if name in ("web", "old") and tools.peer:
            return start([tools.peer, "web", *flags, *(["-http1"] if name == "old" else [])])
        return None

    def stop(self):
        for one in reversed(self.started):
            try:
                one.stop()
            except OSError as error:
                print(f"NOTICE: {error}", file=sys.stderr)
