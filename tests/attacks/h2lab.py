"""The lab of group H2: a router of its own, its services, and the checks that the cases share.

Downstream is HTTP/2 in plain text and TLS, or told apart by its preface; upstream are the servers of the run, behind their
relays, and a recording service of HTTP/2. Retries are on. Not for: which inputs are sent.
"""

import collections
import os
import shutil

import frames
from certs import Authority
from h2client import H2, context
from h2origin import Endless, Origin, settled
from lab import HERE, Excepted, Lab, Router, demand
from wire import eventually

PORTS = ["admin", "h2h1", "h2h1tls", "h2h2", "h2h2tls", "detect", "detecttls", "h1h2", "stallh1", "stallh2"]
TO_H1 = ["h2h1", "h2h1tls", "detect", "detecttls"]
TO_H2 = ["h2h2", "h2h2tls"]
ORIGIN, DIRECT = "origin", "direct"
HOST = "%HOST%"
# What one connection may add to the resident memory, in KiB.
GROWTH = 50 * 1024
# What is accepted though the RFC has it otherwise; whatever is held under these did no harm.
CODE = "the codec ends a connection with PROTOCOL_ERROR for all frames and blocks that it cannot read"
DROPPED = "the codec leaves out pseudo-headers where they may not be, and fragments of paths, and goes on"
BEGUN = "the codec does not wait for the SETTINGS of a client"


class Site:
    """The router of this group and its services."""

    def __init__(self, lab):
        self.lab, self.turn = lab, 0
        folder = os.path.join(lab.folder, "h2-certs")
        os.makedirs(folder)
        if shutil.which("openssl"):
            Authority(folder, "ca").issue("web", "DNS:web.example")
        else:
            print("NOTICE: no openssl on this machine: group H2 does without TLS")
        self.secure = context() if os.path.exists(os.path.join(folder, "web.pem")) else None
        with open(os.path.join(HERE, "h2.yaml"), encoding="utf-8") as file:
            config = file.read() if self.secure else without_tls(file.read())
        ports = [port for port in PORTS if self.secure or not port.endswith("tls")]
        self.router = Router(lab.binary, lab.folder, "h2", config, ports, certs=folder)
        self.origin, self.endless = Origin(lab.relays_of), Endless(lab.relays_of)
        self.outcomes = collections.defaultdict(collections.Counter)
        for name, relay in lab.relays.items():
            self.router.set(name, [relay.port])
        self.router.set(ORIGIN, [self.origin.port])
        self.router.set("endless", [self.endless.port])
        # A flood is not to wait for a relay.
        self.router.set(DIRECT, [lab.servers[lab.names()[0]].port])
        for listener in [port for port in ports[1:] if port != "h1h2"]:
            eventually(f"{listener} serves", lambda listener=listener: self.serves(listener), 60)

    def listeners(self, kinds):
        """These, but for those that this machine cannot have."""
        return [one for one in kinds if one in self.router.ports]

    def service(self, listener):
        """A service behind this listener; those of HTTP/1 take turns."""
        if "h2h2" in listener or listener in ("stallh2", "h1h2"):
            return ORIGIN
        self.turn += 1
        names = self.lab.names()
        return names[self.turn % len(names)]

    def connect(self, listener, **more):
        tls = self.secure if listener.endswith("tls") else None
        return H2(self.router.ports[listener], tls=tls, **more)

    def serves(self, listener):
        try:
            with self.connect(listener) as conn:
                stream = conn.get(self.service(listener), "/up")
                conn.wait(stream)
                return stream.status == 200
        except OSError:
            return False

    def clear(self, service):
        if service == ORIGIN:
            self.origin.clear()
        elif service == DIRECT:
            self.direct().clear()
        elif service != "endless":
            self.lab.clear(service)

    def direct(self):
        """The server behind `DIRECT`."""
        return self.lab.servers[self.lab.names()[0]]

    def connects(self, listener, service):
        """Connections that the router has made to this service."""
        name = f"rt/{listener.removesuffix('tls')}/client/#/io.l5d.fs/{service}/connects"
        return self.router.metrics().get(name, 0)

    def good(self, service, listener, conn=None):
        """A good request is served, on this connection or one of its own; returns its path."""
        self.lab.number += 1
        path = f"/good-{self.lab.number}"
        own = conn or self.connect(listener)
        stream = own.get(service, path)
        own.wait(stream)
        demand(stream.status == 200, f"a good request: {own.outcome(stream)}, {stream}, {own.broken}, {own.closed}")
        demand(stream.header("x-seen") == path, f"a good request got another's answer: {stream}")
        if conn is None:
            own.close()
        return path

    def upstream(self, service, wanted, loose=False):
        """Exactly these paths went to the service, whole, and nothing else. `loose`: what broke off may be there too."""
        if service != ORIGIN:
            self.lab.upstream(service, wanted, loose)
            return
        good = settled(lambda: sorted(whole(self.origin)) == sorted(wanted), 2.0)
        demand(good, f"the router sent {whole(self.origin)}, not {wanted}")
        partial = [call for call in self.origin.seen() if not call.whole]
        demand(loose or not partial, f"parts of requests reached the upstream: {partial}")
        demand(not self.origin.faults, f"upstream, the router broke the rules: {self.origin.faults}")

    def note(self, ident, outcome):
        """Keeps how a case ended on the wire, for the table at the end."""
        self.outcomes[ident][outcome] += 1

    def show(self, results):
        """How it all ended on the wire, and what was let pass."""
        reasons = collections.Counter(row["detail"] for row in results.rows if row["detail"].startswith("exception: "))
        for reason, count in reasons.items():
            print(f"{count} checks under the {reason}")
        for ident, found in sorted(self.outcomes.items(), key=lambda item: (len(item[0]), item[0])):
            print(f"{ident}: " + ", ".join(f"{count} {outcome}" for outcome, count in found.most_common()))

    def stop(self):
        self.router.stop()


class Bridge(Lab):
    """The checks of group H1 for a router that speaks HTTP/2 to the recording service."""

    def __init__(self, site):
        self.site, self.router, self.number = site, site.router, 0

    def clear(self, name):
        self.site.clear(name)

    def upstream(self, name, wanted, loose=False):
        self.site.upstream(name, wanted, loose)


def coarse(outcome, allowed, stream=None):
    """Whether an outcome is the one of `CODE`; raises Wrong when it is neither that nor allowed."""
    found = outcome == "GOAWAY PROTOCOL_ERROR" and outcome not in allowed
    demand(found or outcome in allowed, f"it ended with {outcome}: {stream}")
    return found


def excepted(reason, found=True):
    if found:
        raise Excepted(reason)


def whole(origin):
    return [call.path for call in origin.seen() if call.whole]


def without_tls(config):
    """The config without its listeners that have a certificate."""
    lines, found = config.splitlines(keepends=True), []
    for at, line in enumerate(lines):
        if "tls@" in line and line.lstrip().startswith("- port:"):
            # It goes on until the keys of the router do.
            end = next(more for more in range(at + 1, len(lines)) if not lines[more].startswith("    "))
            lines[at:end] = [""] * (end - at)
        elif "tls@" not in line:
            found.append(line)
    return "".join(line for line in found if line)


def fill(fields, service):
    """Fields with the name of the service in them."""
    return [(name, value.replace(HOST, service)) for name, value in fields]


def encode(fields, service):
    return frames.block(fill(fields, service))
