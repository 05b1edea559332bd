"""Our own cases, by the peer in Go: it holds servers and client, see `peers/go`."""

import subprocess

from interop import told_client
from servers import free_port

# By what the router finds in files; the numbers are indexes of the ports that `peers/go/lab.go` has. `one` is last, since
# the peer waits for it.
PORTS = 8
SERVICES = {"timed": [0], "flaky": [0], "three": [0, 1, 2], "limited": [3], "dies": [4], "rolling": [5, 6, 7], "one": [0]}

# Seconds that a router may take to end once its streams have.
ENDING = 5


def mesh_of(site, name, secure):
    """A mesh, and the flags of the peer that stay the same."""
    mesh, ports = site.mesh(name, secure), [free_port() for _ in range(PORTS)]
    for service, indexes in SERVICES.items():
        mesh.router.set(service, [ports[index] for index in indexes])
    flags = ["-ports", ",".join(map(str, ports))]
    if secure:
        flags += ["-ca", *site.authority(True), "-cert", site.files(True)[0], "-key", site.files(True)[1]]
    return mesh, flags


def stops(site, report, secure):
    """The routers are told to stop while streams are open; the process ends soon after them."""
    kind = "TLS" if secure else "plain"
    for way in (f"one, {kind}", f"two, {kind}"):
        mesh, flags = mesh_of(site, f"stops-{way[:3]}", secure)
        site.meshes.pop()
        command = [site.tools.peer, "check", "-target", f"127.0.0.1:{mesh.ways[way]}", *flags]
        told_client(report, "own", "", way, [*command, "-pid", str(mesh.router.process.pid)], limit=300)
        try:
            code, problem = mesh.router.process.wait(ENDING), ""
        except subprocess.TimeoutExpired:
            code, problem = None, f"still there {ENDING} s after its last stream"
        if code:
            problem = f"it ended with {code}: {mesh.router.logged()[-300:]}"
        report.add("own", "the router stops: its process ends", way, "failed" if problem else "held", problem)


def run(site, report, quick):
    if site.tools.peer is None:
        report.skip("own", "all cases", "no go on this machine")
        return
    for secure in (False, True):
        mesh, flags = mesh_of(site, "own", secure)
        for topology, port in mesh.ways.items():
            command = [site.tools.peer, "check", "-target", f"127.0.0.1:{port}", *flags, *(["-quick"] if quick else [])]
            told_client(report, "own", "", topology, command, limit=900)
        stops(site, report, secure)
