"""H2-1: the rules of RFC 9113 and RFC 7541, frame by frame, in the order of the sections, as h2spec goes through them.

Each case is bytes behind the settings, and the errors that the rule allows. A rule about a stream may also end the
connection. Not for: floods (see `h2floods`), or what only matters to a service behind (see `h2cases`).
"""

import struct

import frames
from frames import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITIZED, PRIORITY,
                    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame)
from h2lab import BEGUN, CODE, ORIGIN, TO_H1, TO_H2, coarse, excepted
from lab import demand
from wire import Broken, Conn

CODES = {code: {f"GOAWAY {code}", f"RST_STREAM {code}", "closed"} for code in frames.CODES}


def ends(*codes):
    """The connection ends with one of these."""
    return {f"GOAWAY {code}" for code in codes} | {"closed"}


def errs(*codes):
    """The stream or the connection ends with one of these."""
    return set().union(*(CODES[code] for code in codes))


def get(stream, service, **more):
    """HEADERS of a GET; the whole request unless told otherwise."""
    return frames.headers(stream, frames.block(frames.request(service, "/x")), **more)


def post(stream, service, more=()):
    """HEADERS of a POST, whose body is to come."""
    return frames.headers(stream, frames.block(frames.request(service, "/x", "POST", more=more)), end=False)



def fragment(service):
    return frames.block(frames.request(service, "/x"))


def begun(service, stream=1):
    """A block of headers that goes on."""
    return frame(HEADERS, END_STREAM, stream, fragment(service)[:5])


SERVED, ALIVE = {"200"}, {"alive"}
PROTOCOL, SIZE, CLOSED, FLOW = "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "STREAM_CLOSED", "FLOW_CONTROL_ERROR"
RESET = frames.rst_stream
PAD = b"\x05"
WEIGHT = struct.pack(">IB", 0, 255)

# Section, what, bytes for a service, how it must end. Everything is about stream 1 unless it says otherwise.
FRAMES = [
    ("4.1", "an unknown type", lambda s: frame(0x16, 0, 0, b"evil") + get(1, s), SERVED),
    ("4.1", "undefined flags", lambda s: frame(PING, 0x16, 0, b"8 bytes.") + get(1, s), SERVED),
    ("4.1", "the reserved bit", lambda s: get(1 | 1 << 31, s), SERVED),
    ("4.2", "DATA of 16,384 bytes", lambda s: post(1, s) + frames.data(1, b"x" * 16384, True), SERVED),
    ("4.2", "DATA of 16,385 bytes", lambda s: post(1, s) + frame(DATA, 1, 1, b"x" * 16385), errs(SIZE)),
    ("4.2", "HEADERS of 16,385 bytes", lambda s: frame(HEADERS, 5, 1, fragment(s) + frames.literal("x", "y" * 17000)),
     ends(SIZE)),
    ("4.3", "PRIORITY inside of a block", lambda s: begun(s) + frames.priority(1), ends(PROTOCOL)),
    ("4.3", "HEADERS of another stream inside of a block", lambda s: begun(s) + get(3, s), ends(PROTOCOL)),
    ("5.1", "idle: DATA", lambda s: frames.data(1, b"x", True), ends(PROTOCOL)),
    ("5.1", "idle: RST_STREAM", lambda s: RESET(1), ends(PROTOCOL)),
    ("5.1", "idle: WINDOW_UPDATE", lambda s: frames.window_update(1, 100), ends(PROTOCOL)),
    ("5.1", "idle: CONTINUATION", lambda s: frame(CONTINUATION, END_HEADERS, 1, fragment(s)), ends(PROTOCOL)),
    ("5.1", "idle: PRIORITY", lambda s: frames.priority(1) + get(1, s), SERVED),
    ("5.1", "half-closed: DATA", lambda s: post(1, s) + frames.data(1, b"", True) + frames.data(1, b"x", True), errs(CLOSED)),
    ("5.1", "half-closed: HEADERS", lambda s: get(1, s) + get(1, s), errs(CLOSED, PROTOCOL)),
    ("5.1", "half-closed: CONTINUATION", lambda s: get(1, s) + frame(CONTINUATION, END_HEADERS, 1, fragment(s)),
     errs(CLOSED, PROTOCOL)),
    ("5.1", "half-closed: WINDOW_UPDATE", lambda s: get(1, s) + frames.window_update(1, 100), SERVED),
    ("5.1", "half-closed: PRIORITY", lambda s: get(1, s) + frames.priority(1), SERVED),
    ("5.1", "half-closed: RST_STREAM", lambda s: get(1, s) + RESET(1), ALIVE),
    ("5.1", "reset: DATA", lambda s: post(1, s) + RESET(1) + frames.data(1, b"x"), errs(CLOSED)),
    ("5.1", "reset: HEADERS", lambda s: post(1, s) + RESET(1) + get(1, s), errs(CLOSED, PROTOCOL)),
    ("5.1", "reset: CONTINUATION", lambda s: post(1, s) + RESET(1) + frame(CONTINUATION, END_HEADERS, 1, fragment(s)),
     errs(CLOSED, PROTOCOL)),
    ("5.1", "reset: PRIORITY and RST_STREAM", lambda s: post(1, s) + RESET(1) + frames.priority(1) + RESET(1), ALIVE),
    ("5.1.1", "an even identifier", lambda s: get(2, s), ends(PROTOCOL)),
    ("5.1.1", "a smaller identifier", lambda s: post(5, s) + get(3, s), ends(PROTOCOL, CLOSED)),
    ("5.3.1", "HEADERS that depend on themselves", lambda s: frame(HEADERS, 0x25, 1, struct.pack(">IB", 1, 255) + fragment(s)),
     errs(PROTOCOL) | SERVED),
    ("5.5", "an unknown frame inside of a block", lambda s: begun(s) + frame(0x16, 0, 0, b"evil"), ends(PROTOCOL)),
    ("6.1", "DATA on stream 0", lambda s: frames.data(0, b"x", True), ends(PROTOCOL)),
    ("6.1", "padded DATA", lambda s: post(1, s) + frame(DATA, PADDED | 1, 1, PAD + b"x" + bytes(5)), SERVED),
    ("6.1", "DATA whose padding is too long", lambda s: post(1, s) + frame(DATA, PADDED | 1, 1, b"\x06" + bytes(5)),
     ends(PROTOCOL)),
    ("6.1", "padded DATA without a length", lambda s: post(1, s) + frame(DATA, PADDED | 1, 1), ends(PROTOCOL, SIZE)),
    ("6.2", "padded HEADERS", lambda s: frame(HEADERS, PADDED | 5, 1, PAD + fragment(s) + bytes(5)), SERVED),
    ("6.2", "HEADERS with a priority", lambda s: frame(HEADERS, PRIORITIZED | 5, 1, WEIGHT + fragment(s)), SERVED),
    ("6.2", "HEADERS with both", lambda s: frame(HEADERS, PADDED | PRIORITIZED | 5, 1, PAD + WEIGHT + fragment(s) + bytes(5)),
     SERVED),
    ("6.2", "HEADERS on stream 0", lambda s: get(0, s), ends(PROTOCOL)),
    ("6.2", "HEADERS whose padding is too long", lambda s: frame(HEADERS, PADDED | 5, 1, b"\xff" + fragment(s)), ends(PROTOCOL)),
    ("6.2", "HEADERS with a part of a priority", lambda s: frame(HEADERS, PRIORITIZED | 5, 1, b"\0\0"), ends(PROTOCOL, SIZE)),
    ("6.3", "PRIORITY on stream 0", lambda s: frames.priority(0), ends(PROTOCOL)),
    ("6.3", "PRIORITY of 4 bytes", lambda s: post(1, s) + frame(PRIORITY, 0, 1, bytes(4)), errs(SIZE)),
    ("6.4", "RST_STREAM on stream 0", lambda s: RESET(0), ends(PROTOCOL)),
    ("6.4", "RST_STREAM of 3 bytes", lambda s: post(1, s) + frame(RST_STREAM, 0, 1, bytes(3)), ends(SIZE)),
    ("6.5", "SETTINGS acknowledged with a payload", lambda s: frame(SETTINGS, ACK, 0, bytes(6)), ends(SIZE)),
    ("6.5", "SETTINGS on stream 1", lambda s: frame(SETTINGS, 0, 1, struct.pack(">HI", 3, 100)), ends(PROTOCOL)),
    ("6.5", "SETTINGS of 3 bytes", lambda s: frame(SETTINGS, 0, 0, bytes(3)), ends(SIZE)),
    ("6.5.2", "ENABLE_PUSH of 2", lambda s: frames.settings((frames.ENABLE_PUSH, 2)), ends(PROTOCOL)),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", lambda s: frames.settings((frames.INITIAL_WINDOW, 1 << 31)), ends(FLOW)),
    ("6.5.2", "MAX_FRAME_SIZE of 16,383", lambda s: frames.settings((frames.MAX_FRAME, 16383)), ends(PROTOCOL)),
    ("6.5.2", "MAX_FRAME_SIZE of 2^24", lambda s: frames.settings((frames.MAX_FRAME, 1 << 24)), ends(PROTOCOL)),
    ("6.5.2", "unknown settings", lambda s: frames.settings((0xff, 1), (0x9999, 7)) + get(1, s), SERVED),
    ("6.6", "PUSH_PROMISE of a client", lambda s: post(1, s) + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + fragment(s)),
     ends(PROTOCOL)),
    ("6.7", "PING on stream 1", lambda s: frame(PING, 0, 1, bytes(8)), ends(PROTOCOL)),
    ("6.7", "PING of 6 bytes", lambda s: frame(PING, 0, 0, bytes(6)), ends(SIZE)),
    ("6.8", "GOAWAY on stream 1", lambda s: frame(GOAWAY, 0, 1, bytes(8)), ends(PROTOCOL)),
    ("6.8", "GOAWAY of 4 bytes", lambda s: frame(GOAWAY, 0, 0, bytes(4)), ends(SIZE, PROTOCOL)),
    ("6.9", "WINDOW_UPDATE of 0", lambda s: frames.window_update(0, 0), ends(PROTOCOL)),
    ("6.9", "WINDOW_UPDATE of 0 on a stream", lambda s: post(1, s) + frames.window_update(1, 0), errs(PROTOCOL)),
    ("6.9", "WINDOW_UPDATE of 3 bytes", lambda s: frame(WINDOW_UPDATE, 0, 0, bytes(3)), ends(SIZE)),
    ("6.9.1", "a window above 2^31-1", lambda s: frames.window_update(0, 0x7fffffff) * 2, ends(FLOW)),
    ("6.9.1", "a stream's window above 2^31-1", lambda s: post(1, s) + frames.window_update(1, 0x7fffffff) * 2, errs(FLOW)),
    ("6.9.2", "a window above 2^31-1 by SETTINGS",
     lambda s: post(1, s) + frames.window_update(1, 0x7fff0000) + frames.settings((frames.INITIAL_WINDOW, 0x7fffffff)),
     errs(FLOW)),
    ("6.10", "CONTINUATIONs", lambda s: get(1, s, pieces=4), SERVED),
    ("6.10", "DATA inside of a block", lambda s: begun(s) + frames.data(1, b"x"), ends(PROTOCOL)),
    ("6.10", "CONTINUATION on stream 0", lambda s: begun(s) + frame(CONTINUATION, END_HEADERS, 0, fragment(s)[5:]),
     ends(PROTOCOL)),
    ("6.10", "CONTINUATION behind a whole block", lambda s: post(1, s) + frame(CONTINUATION, END_HEADERS, 1, fragment(s)),
     ends(PROTOCOL)),
    ("6.10", "CONTINUATION behind the last one", lambda s: get(1, s, pieces=2) + frame(CONTINUATION, END_HEADERS, 1, b""),
     ends(PROTOCOL, CLOSED)),
    ("6.10", "CONTINUATION behind DATA", lambda s: post(1, s) + frames.data(1, b"x") + frame(CONTINUATION, 4, 1, fragment(s)),
     ends(PROTOCOL)),
    ("7", "GOAWAY with an unknown code", lambda s: frames.goaway(0, 0xff) + frames.ping(), ALIVE | {"closed", "GOAWAY NO_ERROR"}),
    ("7", "RST_STREAM with an unknown code", lambda s: post(1, s) + RESET(1, 0xff) + frames.ping(), ALIVE),
    ("8.1", "a second HEADERS that does not end", lambda s: post(1, s) + post(1, s), errs(PROTOCOL)),
    ("8.1", "trailers", lambda s: post(1, s) + frames.data(1, b"x") + frames.headers(1, frames.block([("x-a", "b")])), SERVED),
    ("8.1", "an empty body", lambda s: post(1, s) + frames.data(1, b"", True), SERVED),
    ("8.3.1", "HEAD", lambda s: frames.headers(1, frames.block(frames.request(s, "/x", "HEAD"))), SERVED),
    ("8.3.1", "OPTIONS *", lambda s: frames.headers(1, frames.block(frames.request(s, "*", "OPTIONS"))),
     SERVED | {"400", "404", "405", "501"}),
]
HPACK = [
    ("7541/6.1", "indexed fields", lambda s: frames.indexed(2) + frames.indexed(6) + frames.indexed(4) +
     frames.literal(1, s), SERVED),
    ("7541/6.2.1", "stored fields, and the table", lambda s: frames.literal("x-a", "b", store=True) * 3, None),
    ("7541/6.2.1", "a stored field with an indexed name", lambda s: frames.literal(58, "agent", store=True) + frames.indexed(62),
     None),
    ("7541/6.2.2", "a field that is not stored", lambda s: frames.literal(58, "agent"), None),
    ("7541/6.2.3", "a field that is never stored", lambda s: b"\x10" + frames.string("x-a") + frames.string("b"), None),
    ("7541/5.2", "Huffman", lambda s: frames.literal("x-a", "all of 0123456789 ~!@#$%^&*()_+", coded=True), None),
    ("7541/5.2", "Huffman of every byte", lambda s: frames.literal("x-a", bytes(range(0x21, 0x7f)).decode(), coded=True), None),
    ("7541/4.4", "an entry larger than the table", lambda s: frames.literal("x-a", "b" * 5000, store=True), None),
]


# Where the RFC names another code than PROTOCOL_ERROR and the connection ends with that.
COARSE = {"half-closed: DATA", "PRIORITY of 4 bytes", "RST_STREAM of 3 bytes", "SETTINGS acknowledged with a payload",
          "SETTINGS of 3 bytes", "INITIAL_WINDOW_SIZE of 2^31", "PING of 6 bytes", "WINDOW_UPDATE of 3 bytes"}


def check(site, listener, name, data, allowed):
    service = site.service(listener)
    with site.connect(listener) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        stream = conn.reserve(1)
        conn.send(data(service))
        if allowed & ALIVE:
            conn.send(frames.ping(b"question"))
            conn.pump(lambda: b"question" in conn.pongs or conn.over())
            outcome = "alive" if b"question" in conn.pongs else conn.outcome()
        else:
            outcome = conn.end(stream, 3.0)
            if not SERVED & allowed and outcome == "200":
                # The answer may come before the error.
                conn.pump(conn.over, 1.0)
                outcome = conn.outcome(stream) if conn.over() or stream.code is None else f"RST_STREAM {frames.CODES[stream.code]}"
        site.note("H2-1", outcome)
        other = coarse(outcome, allowed, stream)
        demand(not other or name in COARSE, f"it ended with {outcome}: {stream}")
        if outcome.startswith("GOAWAY") and outcome != "GOAWAY NO_ERROR":
            demand(conn.pump(lambda: conn.closed, 3.0), "the connection stays open after the error (5.4.1)")
    excepted(CODE, other)


def whole(service, extra):
    """An ordinary request with more of a block."""
    return frames.headers(1, fragment(service) + extra)


def preface(site, listener):
    """3.4: what is no preface is answered by HTTP/1 or by an end."""
    for data in [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + frames.settings(), frames.PREFACE[:-1] + b"x" + frames.settings()]:
        with Conn(site.router.ports[listener], timeout=20.0) as conn:
            conn.send(data)
            while conn.more():
                pass
            demand(b" 200 " not in conn.buffer, f"it was served: {conn.buffer[:200]!r}")
    with site.connect(listener, begin=False) as conn:
        for byte in frames.PREFACE + frames.settings():
            conn.send(bytes([byte]))
        site.good(site.service(listener), listener, conn)


def no_settings(site, listener):
    """3.4: SETTINGS are the first frame of a client."""
    with site.connect(listener, begin=False) as conn:
        conn.send(frames.PREFACE + frames.ping())
        conn.pump(lambda: conn.over() or conn.pongs, 20.0)
        excepted(BEGUN, bool(conn.pongs))
        demand(conn.outcome() in ends(PROTOCOL), f"no SETTINGS first: {conn.outcome()}")


def too_many(site, listener):
    """5.1.2: one stream more than is allowed is refused, and the others are not."""
    with site.connect(listener) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        limit = conn.settings.get(frames.MAX_STREAMS)
        demand(limit, f"MAX_CONCURRENT_STREAMS is not told: {conn.settings}")
        block = frames.block(frames.request(ORIGIN, "/hold", "POST"))
        streams = [conn.open(block, end=False) for _ in range(min(limit, 5000))]
        more = [conn.open(block, end=False) for _ in range(3)]
        conn.wait(*more)
        found = {conn.outcome(stream) for stream in more}
        demand(limit > 5000 or found <= {"RST_STREAM REFUSED_STREAM", "RST_STREAM PROTOCOL_ERROR"}, f"{limit} and 3: {found}")
        demand(not conn.over() and not any(stream.done() for stream in streams), f"others ended: {conn.outcome()}")


def window_of_one(site, listener):
    """6.9.1 and 6.9.2: no byte beyond the window, which may grow by SETTINGS."""
    service = site.service(listener)
    with site.connect(listener, window=1, credit=False) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        stream = conn.get(service, "/x")
        demand(conn.pump(lambda: stream.size >= 1, 3.0), f"nothing came: {conn.outcome(stream)}")
        conn.pump(stream.done, 0.2)
        demand(stream.size == 1, f"{stream.size} bytes in a window of 1")
        conn.send(frames.settings((frames.INITIAL_WINDOW, 500), (frames.INITIAL_WINDOW, 2)))
        demand(conn.pump(lambda: stream.size >= 2, 3.0), "the window grew, and nothing came")
        conn.pump(stream.done, 0.2)
        demand(stream.size == 2, f"{stream.size} bytes in a window of 2: the last value counts")
        conn.send(frames.window_update(stream.ident, 100))
        conn.wait(stream)
        demand(stream.ended, f"{conn.outcome(stream)}")


def pings(site, listener):
    """6.7: a PING is answered with what it brought, a PING that answers is not."""
    with site.connect(listener) as conn:
        conn.settle()
        conn.send(frames.ping(b"answered", ACK) + frames.ping(b"question"))
        demand(conn.pump(lambda: conn.pongs), f"no answer: {conn.outcome()}")
        demand(conn.pongs == [b"question"], f"answered {conn.pongs}")


def http1(site, listener):
    """An h2 listener in plain text that is asked in HTTP/1 says something readable, or closes."""
    with Conn(site.router.ports[listener], timeout=20.0) as conn:
        conn.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            demand(conn.response().status >= 400, "it was served")
        except (Broken, ValueError):
            pass


def run(site, results):
    everywhere = site.listeners([*TO_H1, *TO_H2])
    cases = [(section, name, data, allowed) for section, name, data, allowed in FRAMES]
    for section, name, extra, allowed in HPACK:
        if allowed is None:
            cases.append((section, name, lambda s, extra=extra: whole(s, extra(s)), SERVED))
        else:
            cases.append((section, name, lambda s, extra=extra: frames.headers(1, extra(s)), allowed))
    for turn, (section, name, data, allowed) in enumerate(cases):
        for listener in {everywhere[turn % len(everywhere)], everywhere[(turn + 3) % len(everywhere)]}:
            results.attempt("H2-1", f"{section} {name}", listener,
                            lambda listener=listener, data=data, allowed=allowed, name=name: check(site, listener, name, data, allowed))
    for section, name, kinds, work in [
            ("3.4", "prefaces", ["h2h1", "h2h2", "detect"], preface), ("3.4", "no SETTINGS", everywhere, no_settings), ("5.1.2", "too many streams", ["h2h2", "h2h2tls"], too_many),
            ("6.9", "a window of 1", everywhere, window_of_one), ("6.7", "PING", everywhere, pings),
            ("3.4", "HTTP/1 instead", ["h2h1", "h2h2"], http1)]:
        for listener in site.listeners(kinds):
            results.attempt("H2-1", f"{section} {name}", listener, lambda listener=listener, work=work: work(site, listener))
