"""Fetches and builds the programs of others that a run uses, below `target/grpc`; says what this machine cannot have.

What is there already is used as it is. Not for: how they are run.
"""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")

GRPC_GO = "google.golang.org/grpc@v1.85.0"
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
GRPC_JS = "@grpc/grpc-js@1.14.7"
GRPCIO = "grpcio>=1.60"

# Seconds that fetching or building one thing may take.
PATIENCE = 400


class Tools:
    """Paths of programs; None for what is not to be had. `missing` says why, one line each."""

    def __init__(self, cache):
        self.cache, self.missing = cache, []
        os.makedirs(os.path.join(cache, "bin"), exist_ok=True)
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        self.peer = self.own_peer(go)
        self.interop_client = self.interop_server = None
        if self.from_go(go, "interop", ["client", "server"],
                        [GRPC_GO.replace("@", f"/interop/{name}@") for name in ("client", "server")]):
            self.interop_client, self.interop_server = self.bin("interop/client"), self.bin("interop/server")
        self.h2spec = shutil.which("h2spec") or (self.from_go(go, "", ["h2spec"], [H2SPEC]) and self.bin("h2spec"))
        self.python = self.grpcio()
        self.node = self.grpc_js()
        self.curl, self.nghttp, self.h2load = (self.plain(name) for name in ("curl", "nghttp", "h2load"))

    def bin(self, name):
        return os.path.join(self.cache, "bin", name)

    def lacks(self, what):
        self.missing.append(what)

    def run(self, what, command, folder=None, **environment):
        """Whether the command ended well."""
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
                                  stdin=subprocess.DEVNULL, env={**os.environ, **environment})
        except (OSError, subprocess.TimeoutExpired) as error:
            self.lacks(f"no {what}: {error}")
            return False
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            self.lacks(f"no {what}: {lines[-1] if lines else done.returncode}")
        return done.returncode == 0

    def plain(self, name):
        found = shutil.which(name)
        if found is None:
            self.lacks(f"no {name} on this machine")
        return found

    def from_go(self, go, folder, names, packages):
        """Whether these programs are there, or `go install` brought them."""
        wanted = [self.bin(os.path.join(folder, name)) for name in names]
        if all(map(os.path.exists, wanted)):
            return True
        what = f"{' and '.join(names)} of {packages[0].split('@')[0]}"
        if go is None:
            self.lacks(f"no {what}: no go on this machine")
            return False
        return self.run(what, [go, "install", *packages], GOBIN=self.bin(folder).rstrip("/"), GOFLAGS="-mod=mod")

    def own_peer(self, go):
        """Our own servers and client in Go, built when their sources have changed."""
        source, work, binary = os.path.join(PEERS, "go"), os.path.join(self.cache, "go"), self.bin("peer")
        if go is None:
            self.lacks("no peer in Go: no go on this machine; own cases are left out")
            return binary if os.path.exists(binary) else None
        os.makedirs(work, exist_ok=True)
        files = [name for name in os.listdir(source) if name.endswith(".go")]
        newest = max(os.path.getmtime(os.path.join(source, name)) for name in files)
        if os.path.exists(binary) and os.path.getmtime(binary) > newest:
            return binary
        for name in os.listdir(work):
            if name.endswith(".go"):
                os.remove(os.path.join(work, name))
        for name in files:
            shutil.copy(os.path.join(source, name), work)
        flags = {"GOFLAGS": "-mod=mod"}
        steps = [[go, "get", GRPC_GO], [go, "build", "-o", binary, "."]]
        if not os.path.exists(os.path.join(work, "go.mod")):
            steps.insert(0, [go, "mod", "init", "peer"])
        return binary if all(self.run("peer in Go", step, work, **flags) for step in steps) else None

    def grpcio(self):
        """A Python that has grpcio: this one, that on the PATH, or one below the cache."""
        own = os.path.join(self.cache, "python", "bin", "python3")
        for python in [sys.executable, shutil.which("python3"), own]:
            if python and os.path.exists(python) and has_grpcio(python):
                return python
        folder = os.path.join(self.cache, "python")
        if not self.run("grpcio", [sys.executable, "-m", "venv", folder]):
            return None
        command = [own, "-m", "pip", "install", "-q", "--disable-pip-version-check", GRPCIO]
        return own if self.run("grpcio", command) and has_grpcio(own) else None

    def grpc_js(self):
        """Node and the folder of its modules."""
        node, npm = shutil.which("node") or shutil.which("nodejs"), shutil.which("npm")
        modules = os.path.join(self.cache, "node", "node_modules")
        if node is None:
            self.lacks("no @grpc/grpc-js: no node on this machine")
            return None
        if not os.path.exists(os.path.join(modules, "@grpc", "grpc-js")):
            os.makedirs(modules, exist_ok=True)
            command = [npm or "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix",
                       os.path.dirname(modules), GRPC_JS]
            if not self.run("@grpc/grpc-js", command):
                return None
        return node, modules


def has_grpcio(python):
    return subprocess.run([python, "-c", "import grpc"], capture_output=True, check=False).returncode == 0
