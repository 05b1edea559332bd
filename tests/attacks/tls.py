"""Group T: certificates that change, names that do not match, handshakes that do not end."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

from certs import Authority
from lab import HERE, Router, demand
from wire import Broken, Conn, eventually

PORTS = ["admin", "plain", "tls", "mutual", "sni"]
GET = b"GET /x HTTP/1.1\r\nHost: web.example\r\nl5d-name: /%s\r\n\r\n"


class Service:
    """A service that speaks TLS, or plain HTTP without a certificate; counts the requests that it could read."""

    def __init__(self, certificate=None):
        self.context, self.requests = None, 0
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=self.sock.accept()[:1], daemon=True).start()

    def serve(self, sock):
        try:
            sock = self.context.wrap_socket(sock, server_side=True) if self.context else sock
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65536)
                    if not more:
                        return
                    data += more
                    if not data[:1].isalpha():
                        sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                        return
                data = data.split(b"\r\n\r\n", 1)[1]
                self.requests += 1
                sock.sendall(b"HTTP/1.1 200 OK\r\nx-seen: /x\r\ncontent-length: 2\r\n\r\nok")
        except OSError:
            pass
        finally:
            sock.close()


class Site:
    """The router of this group, its certificates and its services."""

    def __init__(self, lab):
        self.folder = os.path.join(lab.folder, "certs")
        os.makedirs(self.folder)
        self.ca = Authority(self.folder, "ca")
        self.other = Authority(self.folder, "other")
        limited = Authority(self.folder, "limited", "nameConstraints=critical,permitted;DNS:elsewhere.example")
        self.ca.issue("web", "DNS:web.example,DNS:api.example,IP:127.0.0.1")
        self.caller = self.ca.issue("caller", "DNS:caller.example")
        shutil.copy(self.ca.path("pem"), os.path.join(self.folder, "bundle.pem"))
        self.services = {
            "plain": Service(),
            "tls": Service(self.ca.issue("s-good", "DNS:web.example")),
            "tls-name": Service(self.ca.issue("s-name", "DNS:evil.example")),
            "tls-expired": Service(self.ca.issue("s-expired", "DNS:web.example", days=-1)),
            "tls-foreign": Service(self.other.issue("s-foreign", "DNS:web.example")),
            "tls-constraints": Service(limited.issue("s-limited", "DNS:web.example")),
            "tls-plaintext": Service(),
            "spiffe": Service(self.ca.issue("s-spiffe", "URI:spiffe://example.org/web")),
            "tls-spiffe": Service(self.ca.issue("s-evil", "URI:spiffe://example.org/evil")),
            "careless": Service(self.other.issue("s-careless", "DNS:nobody.example")),
        }
        with open(os.path.join(HERE, "tls.yaml"), encoding="utf-8") as file:
            self.config = file.read()
        # The authority with constraints is trusted as well: only its constraints are broken.
        with open(self.ca.path("pem"), "a", encoding="ascii") as file, open(limited.path("pem"), encoding="ascii") as more:
            file.write(more.read())
        self.router = Router(lab.binary, lab.folder, "tls", self.config, PORTS, certs=self.folder)
        for name, service in self.services.items():
            self.router.set(name, [service.port])
        eventually("the service is known", lambda: self.ask("plain", "plain").status == 200)

    def context(self, certificate=None, version=None):
        context = ssl.create_default_context(cafile=self.ca.path("pem"))
        if certificate:
            context.load_cert_chain(*certificate)
        if version:
            context.maximum_version = version
        return context

    def connect(self, listener, name="web.example", **more):
        tls = None if listener == "plain" else self.context(**more)
        return Conn(self.router.ports[listener], tls=tls, name=name)

    def ask(self, service, listener="tls", host="web.example", name="web.example", **more):
        with self.connect(listener, name, **more) as conn:
            conn.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\nl5d-name: /{service}\r\n\r\n".encode())
            return conn.response()

    def serial(self):
        """The serial number of the certificate that a new connection gets."""
        with self.connect("tls") as conn:
            return conn.sock.getpeercert()["serialNumber"]

    def failures(self, side, reason):
        found = self.router.counters("tls_handshake_failures_total")
        return sum(value for labels, value in found.items() if f'side="{side}"' in labels and f'reason="{reason}"' in labels)

    def sent(self):
        return {name: service.requests for name, service in self.services.items()}


def replace(site, way):
    """T1: a new certificate and key are in use within 5 s; what is open goes on."""
    old = site.serial()
    new = site.ca.issue("next", "DNS:web.example,IP:127.0.0.1", folder=site.folder)
    with site.connect("tls") as conn:
        for source, target in zip(new, ["web.pem", "web.key"]):
            put(way, source, os.path.join(site.folder, target))
        # Five seconds; more is for a busy machine.
        eventually("the new certificate is in use", lambda: site.serial() != old, 30)
        conn.send(GET % b"plain")
        demand(conn.response().status == 200, "an open connection")


def put(way, source, target):
    with open(source, "rb") as file:
        data = file.read()
    if way == "slowly":
        with open(target, "wb") as file:
            for at in range(0, len(data), 40):
                file.write(data[at:at + 40])
                file.flush()
                time.sleep(0.01)
        return
    place = f"{target}.{time.monotonic_ns()}"
    with open(place, "wb") as file:
        file.write(data)
    if way == "symlink":
        os.symlink(place, place + ".link")
        place += ".link"
    os.rename(place, target)


def mismatch(site):
    """T1: a key that does not belong, and one that is no key, leave the old state in force, with an alarm."""
    old = site.serial()
    with open(os.path.join(site.folder, "web.key"), "rb") as file:
        good = file.read()
    for bad in [site.caller[1], os.path.join(site.folder, "web.pem")]:
        before = sum(count for labels, count in site.router.counters("tls_reload_total").items() if "failed" in labels)
        shutil.copy(bad, os.path.join(site.folder, "web.key"))

        def alarmed(before=before):
            found = site.router.counters("tls_reload_total")
            return sum(count for labels, count in found.items() if "failed" in labels) > before

        eventually("the failure is counted", alarmed, 30)
        demand(site.serial() == old, "the old certificate is gone")
        demand(site.ask("plain").status == 200, "requests")
    with open(os.path.join(site.folder, "web.key"), "wb") as file:
        file.write(good)
    eventually("the alarm ends", lambda: not any(site.router.counters("tls_reload_failing").values()), 30)


def bundle(site):
    """T2: after the authority is gone its clients are refused, with a session of before as well."""
    context = site.context(site.caller)
    sock = socket.create_connection(("127.0.0.1", site.router.ports["mutual"]), 5)
    with context.wrap_socket(sock, server_hostname="web.example") as first:
        first.sendall(GET % b"plain")
        demand(b"200 OK" in first.recv(65536), "a client with a certificate")
        session = first.session

    def admitted(session):
        sock = socket.create_connection(("127.0.0.1", site.router.ports["mutual"]), 5)
        try:
            with context.wrap_socket(sock, server_hostname="web.example", session=session) as conn:
                conn.sendall(GET % b"plain")
                return b"200 OK" in conn.recv(65536)
        except OSError:
            return False

    demand(admitted(session), "before, its clients are served")
    refused = {"resumed": session, "new": None}
    shutil.copy(site.other.path("pem"), os.path.join(site.folder, "bundle.pem"))
    eventually("the old authority is refused", lambda: not admitted(None), 30)
    for what, session in refused.items():
        demand(not admitted(session), f"a client of the old authority, {what}")
    new = site.other.issue("caller-2", "DNS:caller.example")
    demand(site.ask("plain", "mutual", certificate=new).status == 200, "a client of the new authority")


def misdirected(site):
    """T3."""
    before = site.sent()
    for host in ["api.example", "web.example.evil", "web", "127.0.0.1"]:
        response = site.ask("plain", "sni", host=host)
        demand(response.status == 421, f"{host}: {response}")
    demand(site.sent() == before, "a request went on")
    for host in ["web.example", "WEB.Example", "web.example."]:
        demand(site.ask("plain", "sni", host=host).status == 200, host)


def upstream(site, service, reason):
    """T4: 502, the cause in the metric, and no request to a service that is not whom it should be."""
    before, failed = site.sent(), site.failures("client", reason)
    response = site.ask(service)
    demand(response.status == 502, f"answered {response}")
    demand(site.sent() == before, "a request went to it")
    demand(site.failures("client", reason) > failed,
           f"{reason} is not in {site.router.counters('tls_handshake_failures_total')}")


def early_data(site):
    """T5: no session allows early data, so none is taken."""
    where = f"127.0.0.1:{site.router.ports['tls']}"
    session, early = os.path.join(site.folder, "session"), os.path.join(site.folder, "early")
    common = ["openssl", "s_client", "-connect", where, "-servername", "web.example", "-tls1_3"]
    with open(early, "wb") as file:
        file.write((GET % b"plain").replace(b"GET", b"POST"))
    asked = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"plain"
    first = subprocess.run([*common, "-ign_eof", "-sess_out", session], input=asked, capture_output=True, check=False,
                           timeout=20)
    demand(b"200 OK" in first.stdout, f"a first request: {first.stdout[-300:]}")
    before = site.services["plain"].requests
    second = subprocess.run([*common, "-sess_in", session, "-early_data", early], input=b"", capture_output=True,
                            check=False, timeout=20)
    demand(b"Early data was accepted" not in second.stdout, "early data was accepted")
    demand(b"Max Early Data: 0" in first.stdout + second.stdout or b"was rejected" in second.stdout
           or b"was not sent" in second.stdout, f"nothing is said of early data: {second.stdout[-500:]}")
    demand(site.services["plain"].requests == before, "a request in early data went on")


def careless(site, lab):
    """T6."""
    demand(site.ask("careless").status == 200, "disableValidation")
    demand(sum(site.router.counters("tls_validation_disabled").values()) >= 1, "no metric")
    demand("disableValidation" in site.router.logged(), "no warning at the start")
    bad = site.config.replace("disableValidation: true",
                              "disableValidation: true, clientAuth: { certPath: a.pem, keyPath: a.key }")
    path = os.path.join(site.folder, "bad.yaml")
    for word, value in {"disco": site.router.disco, "certs": site.folder, **site.router.ports}.items():
        bad = bad.replace(f"@{word}@", str(value))
    with open(path, "w", encoding="utf-8") as file:
        file.write(bad)
    done = subprocess.run([lab.binary, "check", path], capture_output=True, check=False, text=True)
    demand(done.returncode != 0 and "clientAuth" in done.stderr, f"check says {done.stderr}")


def handshakes(site):
    """T7: nothing, nonsense, half a handshake, plain text: each costs little, and is over in time."""
    memory, port, idle = site.router.rss(), site.router.ports["tls"], []
    hello = b"\x16\x03\x01"
    for number in range(400):
        sock = socket.create_connection(("127.0.0.1", port), 5)
        sock.sendall([b"", hello + b"\x40\x00", b"GET / HTTP/1.1\r\n\r\n", hello + b"\x40\x00\x01\x00\x3f\xfc" + b"x" * 9000,
                      b"\x80\x2e\x01\x00\x02", b"\xff" * 64][number % 6] or b"")
        idle.append(sock)
    started = time.monotonic()
    with site.connect("plain") as conn:
        for _ in range(200):
            conn.send(GET % b"plain")
            demand(conn.response().status == 200, "plain traffic")
    demand(time.monotonic() - started < 30, f"200 requests took {time.monotonic() - started:.1f} s")
    demand(site.ask("plain").status == 200, "TLS traffic")
    demand(site.router.rss() - memory < 48 * 1024, f"memory went from {memory} to {site.router.rss()} KiB")
    for sock in idle:
        sock.settimeout(60)
        try:
            while sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
        sock.close()
    eventually("the silent ones are counted", lambda: site.failures("server", "timeout") >= 66)


def renegotiation(site):
    """T7: TLS 1.2 lets a client ask for another handshake on the connection; it gets none."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.router.ports['tls']}", "-servername", "web.example",
               "-tls1_2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        try:
            client.stdin.write(b"R\n")
            client.stdin.flush()
            output, _ = client.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            client.kill()
            output, _ = client.communicate()
    demand(b"RENEGOTIATING" in output, f"openssl did not ask: {output[-300:]}")
    demand(output.count(b"Verification") <= 1 or b"no renegotiation" in output, f"a second handshake: {output[-500:]}")
    demand(site.ask("plain").status == 200, "afterwards")


def framing(site):
    """Rule R holds behind TLS as well."""
    before = site.sent()
    for data in [b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"X : y\r\n\r\n",
                 b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"]:
        with site.connect("tls") as conn:
            conn.send(b"POST /evil HTTP/1.1\r\nHost: web.example\r\nl5d-name: /plain\r\n" + data)
            try:
                response = conn.response()
            except Broken as error:
                demand(False, f"no answer: {error}")
            demand(response.status == 400 and conn.closed(), f"answered {response}")
    demand(site.sent() == before, "a request went on")


def run(lab, results, _options):
    if shutil.which("openssl") is None:
        print("NOTICE: no openssl on this machine: nothing is proven about TLS")
        for number in range(1, 8):
            results.add(f"T{number}", "all", "TLS", "skipped", "no openssl")
        return
    site = Site(lab)
    try:
        checks = [("T1", f"certificate replaced by {way}", lambda way=way: replace(site, way))
                  for way in ["rename", "symlink", "slowly"]]
        checks += [("T1", "a key that does not belong", lambda: mismatch(site)), ("T2", "bundle", lambda: bundle(site)),
                   ("T3", "SNI and Host", lambda: misdirected(site)), ("T5", "early data", lambda: early_data(site)),
                   ("T6", "disableValidation", lambda: careless(site, lab)), ("T7", "half-open", lambda: handshakes(site)),
                   ("T7", "renegotiation", lambda: renegotiation(site)), ("H1-1", "behind TLS", lambda: framing(site))]
        checks.insert(5, ("T4", "the right service", lambda: demand(
            site.ask("tls").status == 200 and site.ask("spiffe").status == 200, "it is not served")))
        for service, reason in [("tls-name", "name-mismatch"), ("tls-expired", "expired"), ("tls-foreign", "unknown-issuer"),
                                ("tls-constraints", "name-constraints"), ("tls-plaintext", "not-tls"),
                                ("tls-spiffe", "name-mismatch")]:
            checks.append(("T4", service, lambda service=service, reason=reason: upstream(site, service, reason)))
        for ident, what, check in checks:
            results.attempt(ident, what, "TLS", check)
        results.attempt("T7", "alive and unharmed", "TLS", site.router.unharmed)
    finally:
        site.router.stop()
