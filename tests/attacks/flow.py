"""H1-9 to H1-13, H1-15 and H1-16: what depends on both sides of a request, on time, or on a service that lies."""

import time

from lab import demand
from liar import GOOD, Liar
from wire import Broken, Conn, eventually

EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

HEADS = [
    ("length and chunked", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked and length", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"),
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil!"),
    ("a list of lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 4, 4\r\n\r\nevil"),
    ("a negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nevil"),
    ("gzip", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nevil"),
    ("gzip, chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked in 1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("garbage", b"\0\x01\x02evil evil evil\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("a request", b"GET / HTTP/1.1\r\nhost: evil\r\n\r\n"),
    ("version 2.0", b"HTTP/2.0 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ("no status", b"HTTP/1.1 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ("status 99", b"HTTP/1.1 099 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ("LF only", b"HTTP/1.1 200 OK\ncontent-length: 4\n\nevil"),
    ("a fold", b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 4\r\n\r\nevil"),
    ("space before the colon", b"HTTP/1.1 200 OK\r\ncontent-length : 4\r\n\r\nevil"),
    ("CR in a value", b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 4\r\n\r\nevil"),
    ("unasked 101", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\nconnection: upgrade\r\n\r\nevil"),
    ("a flood of 1xx", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 40),
]
BODIES = [
    ("bad chunk size", CHUNKED + b"4\r\ngood\r\nxyz\r\n"),
    ("size overflow", CHUNKED + b"4\r\ngood\r\n10000000000000000\r\nevil"),
    ("no CRLF after a chunk", CHUNKED + b"4\r\ngoodevil\r\n0\r\n\r\n"),
    ("LF after the size", CHUNKED + b"4\ngood\r\n0\r\n\r\n"),
]
AFTER = [
    ("a second response", "GET", 200, GOOD + EVIL),
    ("a few bytes", "GET", 200, GOOD + b"\r\n"),
    ("a body for HEAD", "HEAD", 200, EVIL),
    ("a body for 204", "GET", 204, b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL),
    ("a body for 304", "GET", 304, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n" + EVIL),
    ("after the last chunk", "GET", 200, CHUNKED + b"0\r\n\r\n" + EVIL),
]


class Lies:
    """The service `liar` behind the router."""

    def __init__(self, lab):
        self.lab, self.liar = lab, Liar()
        lab.router.set("liar", [self.liar.port])
        eventually("the liar is served", lambda: lab.ask("liar").status == 200)

    def good_again(self):
        """The next requests get their own answers, on connections that were not lied on."""
        self.liar.tell()
        for _ in range(4):
            response = self.lab.ask("liar")
            demand((response.status, response.body) == (200, b"good"), f"afterwards: {response}")
        demand(not self.liar.reused, f"the connection was used again: {self.liar.reused}")

    def head(self, answer, close=False):
        self.liar.tell(answer, lie=True, close=close)
        response = self.lab.ask("liar")
        demand(response.status == 502, f"answered {response}")
        demand(b"evil" not in response.body, f"the lie is told on: {response}")
        self.good_again()

    def body(self, answer):
        for version in ["1.1", "1.0"]:
            self.liar.tell(answer, lie=True)
            with Conn(self.lab.router.ports["plain"]) as conn:
                conn.send(f"GET / HTTP/{version}\r\nHost: liar\r\n\r\n".encode())
                try:
                    response = conn.response()
                except (Broken, ValueError):
                    response = None
                # Of HTTP/1.0 the end of the stream is the end of the body; only a reset says that it broke.
                whole = response is not None and response.status == 200 and version == "1.1"
                demand(not whole, f"taken for whole: {response}")
            self.good_again()

    def after(self, method, status, answer):
        self.liar.tell(answer, lie=True)
        with Conn(self.lab.router.ports["plain"]) as conn:
            conn.send(f"{method} / HTTP/1.1\r\nHost: liar\r\n\r\n".encode())
            response = conn.response(method)
            demand(response.status == status and b"evil" not in response.body, f"answered {response}")
            self.liar.tell()
            conn.send(b"GET / HTTP/1.1\r\nHost: liar\r\n\r\n")
            demand(conn.response().body == b"good", "the next answer is that of another")
        self.good_again()

    def granted(self):
        """H1-9: after 101 the bytes flow, before it they wait."""
        self.liar.tell(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", echo=True)
        with Conn(self.lab.router.ports["plain"]) as conn:
            conn.send(b"GET / HTTP/1.1\r\nHost: liar\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly bytes")
            demand(conn.response().status == 101, "no tunnel")
            demand(conn.exactly(11) == b"early bytes", "the early bytes are gone")
        self.good_again()


def refused_upgrade(lab, name, upgrade):
    """H1-9 and H1-10: the server answers 200, so what follows is ours, and no request of the server's."""
    lab.clear(name)
    more = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" if upgrade == "h2c" else \
        "Connection: Upgrade\r\n"
    head = f"GET /up HTTP/1.1\r\nHost: {name}\r\n{more}Upgrade: {upgrade}\r\n\r\n".encode()
    with Conn(lab.router.ports["plain"]) as conn:
        conn.send(head + b"\x00\x01evil\r\n\r\n")
        demand(conn.response().status == 200, "the request")
        try:
            demand(conn.response().status == 400, "what follows was served")
        except Broken:
            pass
        demand(conn.closed(), "the connection is still open")
    lab.upstream(name, ["/up"])
    sent = b"".join(lab.relays[name].sent()).lower()
    demand(b"http2-settings" not in sent, "HTTP2-Settings went on")
    demand(upgrade != "h2c" or b"upgrade" not in sent, "h2c went on")


def early_answer(lab, expect):
    """H1-11: the server answers before the body; what the client sends then is body, and no request."""
    name = lab.names()[0]
    hidden = f"GET /evil HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    for late in [True, False]:
        lab.clear(name)
        with Conn(lab.router.ports["plain"]) as conn:
            conn.send(f"POST /early HTTP/1.1\r\nHost: {name}\r\n{expect}Content-Length: {len(hidden)}\r\n\r\n".encode())
            if not late:
                conn.send(hidden)
            demand(conn.response().status == 200, "the early answer")
            if late:
                conn.send(hidden)
            conn.send(f"GET /next HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            found = conn.responses([], idle=0.5)
            demand([one.header("x-seen") for one in found] in ([], ["/next"]), f"afterwards: {found}")
        good = lab.good(name)
        seen = lab.servers[name].targets
        eventually("the log is written", lambda good=good: good in seen())
        demand(sorted({*seen()} - {"/next"}) == sorted(["/early", good]), f"the server saw {seen()}")


def pipeline(lab, name):
    """H1-15: a thousand requests at once, the first one slow: all answered, in order, once."""
    lab.clear(name)
    targets = [f"/slow-p{number}" if number == 0 else f"/p{number}" for number in range(1000)]
    memory = lab.router.rss()
    with Conn(lab.router.ports["plain"], timeout=60) as conn:
        conn.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode() for target in targets))
        found = [conn.response().header("x-seen") for _ in targets]
    demand(found == targets, f"out of order: {[pair for pair in zip(found, targets) if pair[0] != pair[1]][:3]}")
    lab.upstream(name, targets)
    demand(lab.router.rss() - memory < 16 * 1024, "memory")


class Slow:
    """H1-16: connections that begin and do not go on, kept open while other cases run."""

    def __init__(self, lab, count=300):
        self.lab, self.started = lab, time.monotonic()
        port = lab.router.ports["plain"]
        self.heads = [Conn(port, timeout=60) for _ in range(count)]
        self.bodies = [Conn(port, timeout=60) for _ in range(10)]
        for conn in self.heads:
            conn.send(b"GET /evil HTTP/1.1\r\nHost: python\r\nX-Slow: ")
        for conn in self.bodies:
            conn.send(b"POST /slow-body HTTP/1.1\r\nHost: python\r\nContent-Length: 10\r\n\r\nhello")
        self.count = count

    def check(self):
        """The slow heads are refused within 10 s of their first byte, without a byte for a server."""
        served = self.lab.ask("python")
        demand(served.status == 200, f"others are served: {served}")
        for conn in self.heads:
            demand(conn.response().status == 400 and conn.closed(), "a slow head was not refused")
            conn.sock.close()
        elapsed = time.monotonic() - self.started
        demand(elapsed > 9, f"they were refused after {elapsed} s: too early")
        for conn in self.bodies:
            conn.sock.close()


def run(lab, results, _options):
    lies = Lies(lab)
    for name, answer in HEADS:
        results.attempt("H1-13", name, "liar", lambda answer=answer: lies.head(answer))
    for name, answer in [("nothing", b""), ("half a head", b"HTTP/1.1 200 OK\r\ncont")]:
        results.attempt("H1-13", name, "liar", lambda answer=answer: lies.head(answer, close=True))
    for name, answer in BODIES:
        results.attempt("H1-13", name, "liar", lambda answer=answer: lies.body(answer))
    for name, method, status, answer in AFTER:
        results.attempt("H1-12", name, "liar",
                        lambda method=method, status=status, answer=answer: lies.after(method, status, answer))
    results.attempt("H1-9", "granted", "liar", lies.granted)
    for server in lab.names():
        results.attempt("H1-9", "refused", server, lambda server=server: refused_upgrade(lab, server, "foo"))
        results.attempt("H1-10", "h2c", server, lambda server=server: refused_upgrade(lab, server, "h2c"))
        results.attempt("H1-15", "1,000 at once", server, lambda server=server: pipeline(lab, server))
    if "nginx" in lab.names():
        for expect in ["", "Expect: 100-continue\r\n"]:
            results.attempt("H1-11", f"early answer, {expect.strip() or 'no Expect'}", "nginx",
                            lambda expect=expect: early_answer(lab, expect))

