"""Floods and bombs: H2-2, H2-3, H2-5, H2-6, H2-7, H2-15. Each ends in time, and what stays below it goes on.

Bytes are made before they are sent, so that the router is what limits. Not for: streams that stand still (see `h2flow`).
"""

import functools
import os
import socket
import struct
import time

import frames
from frames import DATA, HEADERS, PRIORITY
from h2lab import CODE, DIRECT, GROWTH, ORIGIN, coarse, excepted
from h2origin import settled
from lab import demand
from wire import Conn

COUNT = 100_000
# Of a flood of streams that are given up, so many may reach a service.
UPSTREAM = 10_000
# Seconds of CPU that ending a flood may cost on a usual machine; a flood that is served whole costs more.
CPU = 4.0
# Seconds that `slowness` takes there.
USUAL = 0.06
CALM = {"GOAWAY ENHANCE_YOUR_CALM", "closed"}
# What makes the router reset a stream may also end the connection at once.
STRICT = CALM | {f"GOAWAY {code}" for code in ("PROTOCOL_ERROR", "FLOW_CONTROL_ERROR", "STREAM_CLOSED", "FRAME_SIZE_ERROR")}
COMPRESSION = {"GOAWAY COMPRESSION_ERROR"}


@functools.lru_cache(1)
def slowness():
    """How many times slower this machine is than a usual one, at least 1: the least of five counts."""
    def count():
        start, total = time.process_time(), 0
        for number in range(2_000_000):
            total += number
        return time.process_time() - start
    return max(1.0, min(count() for _ in range(5)) / USUAL)


def measured(site, listener, work, service=None):
    """Runs `work`, in which a connection may do harm: others are served, memory and CPU stay in bounds."""
    router, service = site.router, service or site.service(listener)
    site.good(service, listener)
    cpu, before = router.cpu(), router.rss()
    router.reset_peak()
    work(service)
    spent, grown = router.cpu() - cpu, router.peak() - before
    site.good(service, listener)
    router.unharmed()
    demand(grown < GROWTH, f"memory grew by {grown} KiB")
    return spent, grown


def ended(site, ident, listener, name, make, allowed, begin=None, service=None):
    """A flood is ended by the router before it has taken all of it."""
    def work(service):
        site.clear(service)
        with site.connect(listener) as conn:
            demand(conn.settle(), f"no settings: {conn.outcome()}")
            stream = begin(conn, service) if begin else None
            flood = make(service, conn.next)
            took = conn.flood(flood)
            conn.pump(conn.over, 20.0)
            outcome = conn.outcome()
            site.note(ident, outcome)
            demand(conn.over() or conn.broken, f"{name}: it goes on after {took} of {len(flood)} bytes: {stream}")
            demand(outcome in allowed, f"{name}: it ended with {outcome} after {took} of {len(flood)} bytes")
    spent, _ = measured(site, listener, work, service)
    demand(spent < CPU * slowness(), f"it cost {spent:.1f} s of CPU")


def streams_ended(site, ident, listener, name, make, allowed):
    """A flood of streams is ended; only some of them reach the service, and none is left there."""
    service = ORIGIN if site.service(listener) == ORIGIN else DIRECT
    before = site.connects(listener, service)
    ended(site, ident, listener, name, make, allowed, service=service)

    def count():
        targets = site.origin.paths() if service == ORIGIN else site.direct().targets()
        return len([target for target in targets if target.startswith("/evil")])

    if service == ORIGIN:
        left = settled(lambda: not site.origin.open(), 60)
        demand(left, f"{len(site.origin.open())} streams are open upstream: {site.origin.open()[:2]}")
    found = -1
    while found != count():
        # Some are logged when they break off.
        found = count()
        time.sleep(0.2)
    made = site.connects(listener, service) - before
    print(f"{ident} {name} [{listener}]: {found} requests and {made} connections went upstream", flush=True)
    demand(max(found, made) < UPSTREAM, f"{found} requests and {made} connections went upstream")


@functools.lru_cache(4)
def resets(service, first, count=COUNT):
    """HEADERS and RST_STREAM, over and over."""
    block = frames.block(frames.request(service, "/evil-hold"))
    start, end = frames.headers(0, block)[:5], block
    code = struct.pack(">I", frames.CANCEL)
    reset = frames.rst_stream(0)[:5]
    return b"".join(start + ident + end + reset + ident + code
                    for ident in (struct.pack(">I", first + 2 * number) for number in range(count)))


def rapid_reset(site, listener):
    streams_ended(site, "H2-2", listener, "rapid reset", resets, CALM)


def provoked(service, first, what, count=20_000):
    """Streams that we are made to reset: a request, and something that it must not be followed by."""
    get = frames.block(frames.request(service, "/evil-hold"))
    post = frames.block(frames.request(service, "/evil-hold", "POST", more=[("content-length", "5")]))
    bad = frames.block([*frames.request(service, "/evil-hold"), ("connection", "close")])
    parts = []
    for ident in range(first, first + 2 * count, 2):
        if what == "WINDOW_UPDATE of 0":
            parts += [frames.headers(ident, get), frames.window_update(ident, 0)]
        elif what == "a window that overflows":
            parts += [frames.headers(ident, get), frames.window_update(ident, 0x7fffffff)]
        elif what == "DATA on a half-closed stream":
            parts += [frames.headers(ident, get), frames.data(ident, b"x", True)]
        elif what == "HEADERS on a half-closed stream":
            parts += [frames.headers(ident, get), frames.headers(ident, get)]
        elif what == "PRIORITY of a wrong length":
            parts += [frames.headers(ident, get), frames.frame(PRIORITY, 0, ident, b"\0\0\0\0")]
        elif what == "PRIORITY on itself":
            parts += [frames.headers(ident, get), frames.priority(ident, ident)]
        elif what == "a content-length that is wrong":
            parts += [frames.headers(ident, post, False), frames.data(ident, b"x", True)]
        else:
            parts += [frames.headers(ident, bad)]
    return b"".join(parts)


PROVOKED = ["WINDOW_UPDATE of 0", "a window that overflows", "DATA on a half-closed stream",
            "HEADERS on a half-closed stream", "PRIORITY of a wrong length", "PRIORITY on itself",
            "a content-length that is wrong", "malformed heads"]


def made_you_reset(site, listener, what):
    streams_ended(site, "H2-3", listener, what, lambda service, first: provoked(service, first, what), STRICT)


def continuations(site, listener, what):
    """H2-5."""
    def flood(service, first):
        base = frames.block(frames.request(service, "/evil"))
        start = frames.frame(HEADERS, 1, first, base)
        if what == "empty":
            return start + frames.frame(frames.CONTINUATION, 0, first) * COUNT
        if what == "one byte each":
            one = frames.literal("x-a", "b" * 100)
            return start + b"".join(frames.frame(frames.CONTINUATION, 0, first, one[at:at + 1]) for at in range(len(one))) * 500
        if what == "of full size":
            return start + frames.frame(frames.CONTINUATION, 0, first, frames.literal("x-a", "b" * 16000)) * 1000
        return frames.frame(HEADERS, 1, first) + frames.frame(frames.CONTINUATION, 0, first) * COUNT
    rejected, at = site.router.rejected(), len(site.router.logged())
    ended(site, "H2-5", listener, what, flood, CALM | {"GOAWAY PROTOCOL_ERROR", "GOAWAY COMPRESSION_ERROR"})
    line = settled(lambda: any(word in site.router.logged()[at:].lower() for word in
                               ["continuation", "enhance_your_calm", "calm", "flood", "header list", "goaway"]), 2.0)
    demand(line, "no line of the log says so")
    demand(site.router.rejected() > rejected, "rejected_total did not grow")


def bombs(site, listener, what):
    """H2-6: short blocks that stand for long lists, on streams whose answers are not taken."""
    def block(service):
        base = frames.block(frames.request(service, "/evil"))
        if what == "one entry of 4 kB":
            return base + frames.literal("x", "b" * 4063, store=True) + frames.indexed(62) * 40_000
        if what == "an entry without a value":
            return base + frames.literal("x", "", store=True) + frames.indexed(62) * 60_000
        if what == "crumbs of a cookie":
            return base + frames.literal(32, "a=b", store=True) + frames.indexed(62) * 60_000
        if what == "empty crumbs":
            return base + frames.literal(32, "", store=True) + frames.indexed(62) * 60_000
        return base + frames.literal("x", "b" * 4063, store=True, coded=True) + frames.indexed(62) * 15_000

    def work(service):
        site.clear(service)
        for _ in range(2):
            with site.connect(listener, window=0) as conn:
                demand(conn.settle(), f"no settings: {conn.outcome()}")
                for _ in range(6):
                    # In frames as large as they may be.
                    stream = conn.open(block(service))
                    outcome = conn.end(stream, 5.0)
                    site.note("H2-6", outcome)
                    demand(outcome in CALM | COMPRESSION | {"GOAWAY PROTOCOL_ERROR", "431", "400",
                                                            "RST_STREAM PROTOCOL_ERROR", "RST_STREAM ENHANCE_YOUR_CALM",
                                                            "RST_STREAM REFUSED_STREAM"},
                           f"it ended with {outcome}: {stream}")
                    if conn.over() or conn.broken:
                        break
        site.upstream(service, [])
    spent, _ = measured(site, listener, work)
    demand(spent < CPU * slowness(), f"it cost {spent:.1f} s of CPU")


def largest_lists(site, listener):
    """H2-6: the longest lists that are allowed, on as many streams as are, which the service does not answer."""
    def work(service):
        host = "endless" if service != ORIGIN else ORIGIN
        base = frames.block(frames.request(host, "/hold"))
        with site.connect(listener, window=0) as conn:
            demand(conn.settle(), f"no settings: {conn.outcome()}")
            told = conn.settings.get(frames.MAX_LIST)
            demand(told, f"MAX_HEADER_LIST_SIZE is not told: {conn.settings}")
            # A service in Python reads no more in good time.
            count, streams = (min(told, 64_000) - 1000) // 1033, 1000 if service != ORIGIN else 300
            streams = min(conn.settings.get(frames.MAX_STREAMS, 1000), streams)
            conn.open(base + frames.literal("x", "b" * 1000, store=True) + frames.indexed(62) * (count - 1))
            for _ in range(streams - 1):
                conn.open(base + frames.indexed(62) * count)
            conn.pump(conn.over, 20.0)
            # It may be ended; it may not grow without a bound.
            held = f"{streams} lists of {count} KiB held"
            site.note("H2-6", conn.outcome() if conn.over() or conn.broken else held)
        demand(settled(lambda: not (site.origin.open() if service == ORIGIN else site.endless.busy), 60), "they are not given up")
    measured(site, listener, work)


def begin_post(conn, service):
    """An upload that goes on."""
    return conn.open(frames.block(frames.request(service, "/evil", "POST")), end=False)


FLOODS = {
    "empty DATA": (begin_post, lambda service, first: frames.data(first - 2) * COUNT),
    # No more of these than every window allows.
    "padded empty DATA": (begin_post, lambda service, first: frames.frame(DATA, frames.PADDED, first - 2, b"\0") * 60_000),
    "DATA of one byte": (begin_post, lambda service, first: frames.data(first - 2, b"x") * 60_000),
    "PING": (None, lambda service, first: frames.ping() * COUNT),
    "PING and no reading": (None, lambda service, first: frames.ping() * COUNT),
    "acknowledged PING": (None, lambda service, first: frames.ping(flags=frames.ACK) * COUNT),
    "SETTINGS": (None, lambda service, first: frames.settings() * COUNT),
    "SETTINGS with values": (None, lambda service, first: b"".join(
        frames.settings((frames.INITIAL_WINDOW, 65535 - number % 2), (frames.TABLE_SIZE, 4096 * (number % 2)))
        for number in range(COUNT))),
    "SETTINGS and no reading": (None, lambda service, first: frames.settings() * COUNT),
    "PRIORITY": (None, lambda service, first: b"".join(frames.priority(3 + 2 * number) for number in range(COUNT))),
    "unknown frames": (None, lambda service, first: frames.frame(0xfa, 0, 0, b"evil") * COUNT),
    "unknown frames of streams": (begin_post, lambda service, first: frames.frame(0xfa, 0, first - 2) * COUNT),
    "WINDOW_UPDATE of 1": (None, lambda service, first: frames.window_update(0, 1) * (5 * COUNT)),
    "RST_STREAM again": (None, lambda service, first: resets(service, first, 1) + frames.rst_stream(first) * COUNT),
}


def flood(site, listener, what):
    """H2-7."""
    begin, make = FLOODS[what]
    if not what.endswith("no reading"):
        allowed = STRICT if what in ("acknowledged PING", "RST_STREAM again", "SETTINGS with values") else CALM
        ended(site, "H2-7", listener, what, make, allowed, begin)
        return

    def work(service):
        # It may end, or it may stop to read: what it may not do is keep the answers.
        tls = site.secure if listener.endswith("tls") else None
        with Conn(site.router.ports[listener], timeout=2.0, tls=tls, name="web.example" if tls else None) as conn:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            conn.send(frames.PREFACE + frames.settings())
            took, until = conn.send(make(service, 1) * 3), time.monotonic() + 30
            # What it has not read may still have found room on the way.
            while took and time.monotonic() < until:
                time.sleep(0.1)
                took = conn.send(make(service, 1)[:170])
            site.note("H2-7", "taken without an end" if took else "closed or not read")
            demand(not took, "it takes all and keeps the answers")
    spent, _ = measured(site, listener, work)
    demand(spent < CPU * slowness(), f"it cost {spent:.1f} s of CPU")


def honest(site, listener):
    """H2-7: short messages and pings at the pace of a gRPC client go on."""
    service = site.service(listener)
    with site.connect(listener) as conn:
        stream = conn.open(frames.block(frames.request(service, "/chat", "POST", more=[
            ("content-type", "application/grpc"), ("te", "trailers")])), end=False)
        start, count = time.monotonic(), 0
        while count < 600:
            conn.send(frames.data(stream.ident, b"\0\0\0\0\x01x"))
            if count % 10 == 0:
                conn.send(frames.ping(struct.pack(">Q", count)))
            if count % 100 == 0:
                conn.send(frames.settings())
            count += 1
            conn.pump(conn.over, max(0.0, start + count * 0.005 - time.monotonic()))
            demand(not conn.over(), f"sent away after {count} messages: {conn.outcome()}")
        conn.send(frames.data(stream.ident, b"", True))
        conn.wait(stream)
        demand(stream.status == 200, f"it ended with {conn.outcome(stream)}: {stream}")
        demand(service != ORIGIN or stream.header("x-got") == "3600", f"not all came: {stream}")
        demand(conn.pump(lambda: len(conn.pongs) == 60), f"{len(conn.pongs)} of 60 pings were answered")


def hpack(service):
    """H2-15: blocks that are broken, by name."""
    base = frames.block(frames.request(service, "/evil"))
    huge = b"\xff" * 20
    text = frames.huffman(b"evil")
    return {
        "index 0": base + b"\x80",
        "index 0 behind a stored field": base + frames.literal("x-a", "b", store=True) + b"\x80",
        "an index that is not there": base + frames.indexed(62),
        "a huge index": base + frames.indexed(1 << 30),
        "an index that overflows": base + huge + b"\x7f",
        "an index without an end": base + b"\xff\x80",
        "a name that is not there": base + frames.literal(70, "b"),
        "a length that overflows": base + b"\x00\x7f" + huge + b"\x7f",
        "a length beyond the block": base + b"\x00\x7f\xff\xff\x03x",
        "a value that is cut": frames.block([*frames.request(service, "/evil"), ("x-a", "bcdefg")])[:-3],
        "a name without a value": base + b"\x00\x01x",
        "Huffman: padding of 8 bits": base + b"\x00\x01x" + bytes([0x80 | len(text) + 1]) + text + b"\xff",
        "Huffman: padding of zeros": base + b"\x00\x01x\x81\x00",
        "Huffman: the end inside": base + b"\x00\x01x\x84\xff\xff\xff\xff",
        "Huffman: only padding": base + b"\x00\x01x\x82\xff\xff",
        "a table larger than told": frames.table_size(1 << 20) + base,
        "a table of 2^32": frames.table_size(1 << 32) + base,
        "a table size that overflows": b"\x3f" + huge + b"\x7f" + base,
        "a table size behind a field": base + frames.table_size(0),
        "a stored field after it was evicted": frames.literal("x-a", "b", store=True) +
        frames.literal("x-b", "c" * 4200, store=True) + frames.indexed(62) + base,
    }


def broken_block(site, listener, name):
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        wanted = [site.good(service, listener, conn)]
        stream = conn.open(hpack(service)[name])
        outcome = conn.end(stream)
        site.note("H2-15", outcome)
        other = coarse(outcome, COMPRESSION, stream)
        demand(conn.pump(lambda: conn.closed), "the connection stays open")
    wanted.append(site.good(service, listener))
    site.upstream(service, wanted)
    excepted(CODE, other)


def tables(site, listener):
    """H2-15: a table that shrinks, grows and is filled anew means what it says, 300 times over."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        base = frames.block(frames.request(service, "/table"))
        sizes = [0, 4096, 100, 4096, 33, 64, 0, 4096]
        for turn in range(300):
            one = frames.table_size(sizes[turn % 8]) + (frames.table_size(4096) if turn % 2 else b"")
            room = 4096 if turn % 2 else sizes[turn % 8]
            value = f"v{turn}"
            block = one + base + frames.literal("x-a", value, store=True)
            if room >= 3 + len(value) + 32:
                block += frames.indexed(62)
            stream = conn.open(block)
            outcome = conn.end(stream)
            demand(outcome == "200", f"turn {turn}: it ended with {outcome}: {stream}")
        evicted = conn.open(frames.table_size(0) + frames.table_size(4096) + base + frames.indexed(62))
        outcome = conn.end(evicted)
        coarse(outcome, COMPRESSION, evicted)
    site.upstream(service, ["/table"] * 300)


def size_flood(site, listener):
    """H2-15: thousands of table sizes in one block are cheap or an end."""
    def work(service):
        with site.connect(listener) as conn:
            block = (frames.table_size(0) + frames.table_size(4096)) * 3000 + frames.block(frames.request(service, "/x"))
            outcome = conn.end(conn.open(block))
            site.note("H2-15", outcome)
            demand(outcome in COMPRESSION | CALM | {"200", "GOAWAY PROTOCOL_ERROR"}, f"it ended with {outcome}")
    spent, _ = measured(site, listener, work)
    demand(spent < 1.0, f"it cost {spent:.1f} s of CPU")


def noise(site, listener):
    """H2-15: blocks of noise end with an error, never with harm."""
    service = site.service(listener)
    for turn in range(40):
        with site.connect(listener) as conn:
            conn.settle()
            stream = conn.open(os.urandom(200 + turn))
            outcome = conn.end(stream)
            demand(outcome in COMPRESSION | CALM | {"GOAWAY PROTOCOL_ERROR", "RST_STREAM PROTOCOL_ERROR", "400", "431"},
                   f"it ended with {outcome}")
    site.good(service, listener)
    site.router.unharmed()


def run(site, results):
    def attempt(ident, name, kinds, work):
        for listener in site.listeners(kinds):
            results.attempt(ident, name, listener, lambda listener=listener: work(listener))

    three = ["h2h1", "h2h2tls", "detect"]
    attempt("H2-2", "100,000 streams begun and reset", ["h2h1", "h2h1tls", "detect", "h2h2", "h2h2tls"],
            lambda listener: rapid_reset(site, listener))
    for turn, what in enumerate(PROVOKED):
        attempt("H2-3", what, ["h2h1", "h2h2"] if turn % 2 else ["detecttls", "h2h2tls"],
                lambda listener, what=what: made_you_reset(site, listener, what))
    for what in ["empty", "one byte each", "of full size", "an empty HEADERS first"]:
        attempt("H2-5", what, three, lambda listener, what=what: continuations(site, listener, what))
    for what in ["one entry of 4 kB", "an entry without a value", "crumbs of a cookie", "empty crumbs", "a coded entry"]:
        attempt("H2-6", what, three, lambda listener, what=what: bombs(site, listener, what))
    attempt("H2-6", "lists as long as allowed", ["h2h1", "h2h2"], lambda listener: largest_lists(site, listener))
    for turn, what in enumerate(FLOODS):
        attempt("H2-7", what, [["h2h1", "detecttls"], ["h2h2", "h2h1tls"], ["detect", "h2h2tls"]][turn % 3],
                lambda listener, what=what: flood(site, listener, what))
    attempt("H2-7", "an honest client", ["h2h1", "h2h2tls", "detect"], lambda listener: honest(site, listener))
    for name in hpack("x"):
        attempt("H2-15", name, ["h2h1tls", "h2h2"], lambda listener, name=name: broken_block(site, listener, name))
    attempt("H2-15", "sizes that oscillate", three, lambda listener: tables(site, listener))
    attempt("H2-15", "a flood of sizes", three, lambda listener: size_flood(site, listener))
    attempt("H2-15", "noise", ["h2h1"], lambda listener: noise(site, listener))
