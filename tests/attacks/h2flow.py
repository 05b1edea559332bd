"""What stands still, is cancelled, or depends on both sides: H2-4, H2-8, H2-11, H2-14, and services that lie over HTTP/2."""

import time

import frames
from h2floods import measured
from h2lab import DROPPED, ORIGIN, TO_H1, TO_H2, excepted
from h2origin import BIG, settled
from lab import demand
from wire import Conn, parse_requests

ERROR = {"RST_STREAM PROTOCOL_ERROR", "GOAWAY PROTOCOL_ERROR", "400"}
# Of 100 answers that nobody takes, one service may have written so much of each.
HELD = 1 << 20


def cancelling(site, listener, rate, seconds):
    """H2-4: so many calls a second are cancelled while they are under way, as many again are answered."""
    service = site.service(listener)
    host = "endless" if service != ORIGIN else ORIGIN
    hold = frames.block(frames.request(host, "/hold"))
    kept = frames.block(frames.request(host, "/kept"))
    site.origin.clear()
    with site.connect(listener) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        answered, cancelled, before = [], 0, []
        room = conn.settings.get(frames.MAX_STREAMS, 1000) - rate // 50
        waiting, start, ticks = [], time.monotonic(), round(seconds * 100)

        def fits():
            waiting[:] = [stream for stream in waiting if not stream.done()]
            return len(waiting) < room or conn.over()

        for tick in range(ticks):
            conn.send(b"".join(frames.rst_stream(ident) for ident in before))
            cancelled += len(before)
            before = []
            demand(conn.pump(fits), f"calls are not answered: {waiting[0] if waiting else ''}")
            for _ in range(rate // 100):
                stream = conn.open(hold)
                before.append(stream.ident)
                answered.append(conn.open(kept))
            waiting += answered[-rate // 100:]
            conn.pump(conn.over, max(0.0, start + tick / 100 - time.monotonic()))
            demand(not conn.over(), f"sent away after {cancelled} of {rate * seconds}: {conn.outcome()}")
        elapsed = time.monotonic() - start
        conn.send(b"".join(frames.rst_stream(ident) for ident in before))
        conn.pump(lambda: all(stream.done() for stream in answered), 60)
        bad = [stream for stream in answered if stream.status != 200]
        demand(not bad, f"{len(bad)} of {len(answered)} were not answered: {bad[0] if bad else ''}")
        demand(not conn.over(), f"sent away: {conn.outcome()}")
        if elapsed > 2 * seconds:
            print(f"NOTICE: {rate * seconds} calls took {elapsed:.1f} s: less is proven of rates than on a faster machine")
        site.note("H2-4", f"{cancelled} calls cancelled in {elapsed:.1f} s")
    demand(settled(lambda: not left_at(site, listener)), f"{left_at(site, listener)} calls are open at the service")


def stalled(site, listener, what):
    """H2-8: 100 large answers that nobody takes: little is held, the service waits, and the streams are reaped."""
    h2 = listener == "stallh2"
    big = site.origin if h2 else site.endless
    host = ORIGIN if h2 else "endless"
    big.clear()

    def work(_service):
        window = 0 if what == "streams" else 1 << 20
        with site.connect(listener, window=window, credit=False) as conn:
            demand(conn.settle(), f"no settings: {conn.outcome()}")
            if what == "streams":
                conn.send(frames.window_update(0, 1 << 30))
            streams = [conn.get(host, "/big") for _ in range(100)]
            for stream in streams:
                stream.keep = False
            conn.pump(lambda: conn.over() or sum(stream.status == 200 for stream in streams) > 90, 20.0)
            settled_at = time.monotonic() + 1.0
            conn.pump(lambda: conn.over() or time.monotonic() > settled_at, 20.0)
            begun = [stream for stream in streams if stream.status == 200]
            demand(len(begun) > 90, f"only {len(begun)} answers began: {conn.outcome()}")
            wrote = big.wrote
            demand(0 < wrote < 100 * HELD or what != "streams" and wrote, f"the service wrote {wrote} bytes")
            demand(wrote < 100 * BIG // 4, f"the service wrote {wrote} bytes")
            conn.pump(lambda: conn.over() or all(stream.done() for stream in streams), 40)
            left = [stream for stream in streams if not stream.done()]
            demand(conn.over() or not left, f"{len(left)} streams are not reaped after 40 s: {left[:1]}")
            site.note("H2-8", f"reaped by {conn.outcome(streams[0]) if conn.over() else 'RST_STREAM'}")
    measured(site, listener, work)
    demand(settled(lambda: not left_at(site, listener)), f"{left_at(site, listener)} answers are still open at the service")


def left_at(site, listener):
    """Calls that the services behind this listener are still busy with."""
    return len(site.origin.open()) if site.service(listener) == ORIGIN else site.endless.busy


def others_served(site, listener, what):
    """H2-8: while a client takes nothing, other clients get answers from the same service."""
    host = ORIGIN if listener == "stallh2" else "endless"
    window = 0 if what == "streams" else 1 << 20
    with site.connect(listener, window=window, credit=False) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        if what == "streams":
            conn.send(frames.window_update(0, 1 << 30))
        streams = [conn.get(host, "/big") for _ in range(100)]
        for stream in streams:
            stream.keep = False
        conn.pump(lambda: all(stream.status for stream in streams), 2.0)
        for number in range(10):
            with site.connect(listener) as other:
                answer = other.get(host, f"/other-{number}")
                other.wait(answer, within=1.0)
                demand(answer.ended, f"others wait as well: request {number} got {answer} in 1 s")
            conn.pump(conn.over, 0.05)


LENGTHS = [
    ("less", "10", [b"hello"], True), ("less, in pieces", "10", [b"he", b"llo"], True), ("nothing", "5", [], True),
    ("nothing but an end", "5", [b""], True), ("more", "3", [b"hello"], True),
    ("two values", "5|6", [b"hello"], False), ("a list", "5, 5", [b"hello"], False), ("a sign", "+5", [b"hello"], False),
    ("negative", "-5", [b"hello"], False), ("hexadecimal", "0x5", [b"hello"], False), ("empty", "", [b"hello"], False),
    ("2^64 and 5", "18446744073709551621", [b"hello"], False), ("no number", "five", [b"hello"], False),
    ("less, with trailers", "10", [b"hello", None], True),
    ("a hidden request", "1", [b"GET /evil-two HTTP/1.1\r\nhost: x\r\n\r\n"], True),
]


def mismatch(site, listener, length, parts, slow):
    """H2-11: the request is never completed, its connection to the service is not used again."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        wanted = [site.good(service, listener, conn)]
        more = [("content-length", value) for value in length.split("|")]
        block = frames.block(frames.request(service, "/evil", "POST", more=more))
        stream = conn.open(block, end=not parts)
        bodies = [part for part in parts if part is not None]
        for at, part in enumerate(bodies):
            if slow:
                # What has come so far is under way when the rest comes.
                conn.pump(conn.over, 0.1)
            conn.send(frames.data(stream.ident, part, at == len(bodies) - 1 and None not in parts))
        if None in parts:
            conn.send(frames.headers(stream.ident, frames.block([("x-a", "b")])))
        outcome = conn.end(stream)
        site.note("H2-11", outcome)
        demand(outcome in ERROR, f"it ended with {outcome}: {stream}")
        if not conn.over():
            wanted.append(site.good(service, listener, conn))
    wanted.append(site.good(service, listener))
    site.upstream(service, wanted, loose=True)
    if service == ORIGIN:
        calls = [call for call in site.origin.seen() if not call.whole]
        demand(settled(lambda: all(call.code is not None or call.lost for call in calls)), f"it is not ended: {calls}")
    else:
        rests = [rest for rest in (parse_requests(data)[1] for data in site.lab.relays[service].sent()) if rest]
        demand(not any(b"evil-two" in rest for rest in rests), f"what is beyond the length went on: {rests}")
        cut = settled(lambda: not any(parse_requests(data)[1] for data in site.lab.relays[service].open()), 3.0)
        demand(cut, "the upstream connection is not closed")


def surplus(site, listener, length, wait):
    """H2-11: bytes that come when the length was reached are an error, and go nowhere; the request may be under way."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        block = frames.block(frames.request(service, "/evil", "POST", more=[("content-length", str(length))]))
        stream = conn.open(block, end=False)
        if length:
            conn.send(frames.data(stream.ident, b"x" * length))
        conn.pump(conn.over, wait)
        conn.send(frames.data(stream.ident, b"GET /evil-two HTTP/1.1\r\nhost: x\r\n\r\n", True))
        outcome = conn.end(stream)
        site.note("H2-11", outcome)
        demand(outcome in ERROR | {"200"}, f"it ended with {outcome}: {stream}")
    site.good(service, listener)
    sent = b"".join(site.lab.relays[service].sent()) if service != ORIGIN else \
        b"".join(bytes(call.body) for call in site.origin.seen())
    demand(b"evil-two" not in sent, f"what is beyond the length went on: {sent[-200:]}")


def idle_streams(site, listener, most, each):
    """H2-14: streams that begin and do not go on, in batches; afterwards nothing of them is left."""
    router, service = site.router, site.service(listener)
    site.good(service, listener)
    before = router.rss()
    conns, count = [], 0
    try:
        block = frames.block(frames.request(ORIGIN if service == ORIGIN else "endless", "/idle", "POST"))
        for _ in range(100):
            conn = site.connect(listener)
            conns.append(conn)
            demand(conn.settle(), f"no settings: {conn.outcome()}")
            batch = min(1000, conn.settings.get(frames.MAX_STREAMS, 1000), most - count)
            streams = [conn.open(block, end=False) for _ in range(batch)]
            pong = len(conn.pongs) + 1
            conn.send(frames.ping())
            demand(conn.pump(lambda conn=conn, pong=pong: len(conn.pongs) >= pong, 60), f"no answer: {conn.outcome()}")
            gone = [stream for stream in streams if stream.done()]
            demand(len(gone) <= batch // 10 or conn.over(), f"{len(gone)} of {batch} are gone: {gone[:1]}")
            count += batch
            if count >= most:
                break
        demand(count == most, f"only {count} streams were begun")
        site.good(service, listener)
        held = router.rss() - before
        site.note("H2-14", f"{most} idle streams took {held / most:.1f} KiB each")
        demand(held < each * most, f"{most} idle streams take {held} KiB")
    finally:
        for conn in conns:
            conn.close()
    demand(settled(lambda: not left_at(site, listener), 60), f"{left_at(site, listener)} are open at the service")
    site.good(service, listener)
    router.unharmed()


def last_ident(site, listener):
    """H2-14: identifiers may jump; what is skipped is closed, and after the last one there is none."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        block = frames.block(frames.request(service, "/jump"))
        for ident in [1, 10_001, 0x7ffffffd, 0x7fffffff]:
            stream = conn.open(block, ident=ident)
            conn.wait(stream)
            demand(stream.status == 200, f"stream {ident}: {conn.outcome(stream)}")
        conn.send(frames.headers(20_001, block))
        conn.pump(conn.over, 0.3)
        demand(not [one for one in conn.others if one.kind == frames.HEADERS], "a stream before the last one was served")
    wanted = site.good(service, listener)
    site.upstream(service, ["/jump"] * 4 + [wanted])


def client_goes(site, listener):
    """H2-14: a client that says GOAWAY while its calls are open gets their answers."""
    with site.connect(listener) as conn:
        service = site.service(listener)
        host = ORIGIN if service == ORIGIN else "node"
        if host not in site.lab.names() and host != ORIGIN:
            host = service
        streams = [conn.get(host, f"/slow-p{number}") for number in range(20)]
        conn.send(frames.goaway(0))
        conn.pump(lambda: all(stream.done() for stream in streams))
        bad = [stream for stream in streams if stream.status != 200 or not stream.ended]
        demand(not bad, f"{len(bad)} calls were lost: {bad[0] if bad else ''}")


def service_goes(site, listener, method, cut):
    """H2-14: a service takes 10 calls and says that it will not do the last 5: these alone are sent again."""
    origin, done = site.origin, []
    site.clear(ORIGIN)
    state = {"conn": None, "taken": []}

    def on_call(call):
        if call.whole and not call.answered:
            if state["conn"] in (None, call.conn) and not done:
                state["conn"] = call.conn
                state["taken"].append(call)
                if len(state["taken"]) == 10:
                    done.append(True)
                    call.conn.send(frames.goaway(state["taken"][4].ident))
                    if cut:
                        call.conn.transport.close()
                    else:
                        origin.loop.call_later(0.2, lambda: [call.conn.answer(one) for one in state["taken"][:5]])
            else:
                call.conn.answer(call)

    try:
        with site.connect(listener) as conn:
            wanted = [site.good(ORIGIN, listener, conn)]
            site.clear(ORIGIN)
            origin.on_call = on_call
            streams = []
            for number in range(10):
                streams.append(conn.get(ORIGIN, f"/goes-{number}") if method == "GET" else
                               conn.post(ORIGIN, f"/goes-{number}", b"hello"))
            conn.wait(*streams, within=8)
            wanted = [stream.status for stream in streams]
    finally:
        origin.on_call = None
    counts = {path: origin.paths().count(path) for path in sorted({*origin.paths()}) if path.startswith("/goes")}
    demand(done, f"the service did not get 10 calls on one connection: {counts}")
    site.note("H2-14", f"{method}, {'cut' if cut else 'GOAWAY'}: answers {sorted(set(map(str, wanted)))}, "
                       f"{sum(counts.values())} calls at the service")
    processed = [call.path for call in state["taken"][:5]]
    for stream, number in zip(streams, range(10)):
        path = f"/goes-{number}"
        again = path not in processed
        allowed = {2} if again else {1} if not cut or method == "POST" else {1, 2}
        demand(counts.get(path) in allowed, f"{path} came {counts.get(path)} times; done were {processed}")
        if again or not cut:
            demand(stream.status == 200, f"{path}: {conn.outcome(stream)}, {stream}")
    site.good(ORIGIN, listener)


def shrinking(site, listener):
    """H2-14: windows and tables that shrink in the middle of an answer, downstream."""
    service = site.service(listener)
    host = "endless" if service != ORIGIN else ORIGIN
    with site.connect(listener, credit=False, window=65535) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        conn.send(frames.window_update(0, 1 << 30))
        stream = conn.get(host, "/big")
        stream.keep = False
        demand(conn.pump(lambda: stream.size == 65535), f"{stream.size} bytes came: {conn.outcome(stream)}")
        conn.send(frames.settings((frames.INITIAL_WINDOW, 0), (frames.TABLE_SIZE, 0)))
        conn.reader.decoder.set(0)
        demand(conn.pump(lambda: conn.acks == 2), f"not acknowledged: {conn.outcome()}")
        # Now the window is -65535.
        conn.send(frames.window_update(stream.ident, 65535))
        conn.pump(conn.over, 0.3)
        demand(stream.size == 65535, f"beyond the window: {stream.size}")
        conn.send(frames.window_update(stream.ident, 10))
        demand(conn.pump(lambda: stream.size == 65545), f"{stream.size} bytes came, not 65545: {conn.outcome(stream)}")
        conn.send(frames.settings((frames.INITIAL_WINDOW, 20), (frames.TABLE_SIZE, 4096)))
        conn.reader.decoder.set(4096)
        demand(conn.pump(lambda: stream.size == 65565), f"{stream.size} bytes came, not 65565: {conn.outcome(stream)}")
        conn.pump(conn.over, 0.2)
        demand(stream.size == 65565 and not conn.over(), f"{stream.size} bytes, {conn.outcome()}")
        conn.send(frames.rst_stream(stream.ident))
        site.lab.number += 1
        again = conn.get(host, "/again")
        demand(conn.pump(lambda: again.status == 200), f"afterwards: {conn.outcome(again)}")


def shrinking_service(site, listener):
    """H2-14: the same upstream, while a request is under way."""
    origin, service = site.origin, ORIGIN
    site.clear(service)
    with site.connect(listener) as conn:
        demand(conn.settle(), "no settings")
        stream = conn.get(service, "/shrinks", method="POST", end=False)
        conn.send(frames.data(stream.ident, b"x" * 1000))
        demand(settled(lambda: origin.seen() and len(origin.seen()[0].body) == 1000), f"it is not there: {origin.seen()}")
        serving = origin.seen()[0].conn

        def settings():
            serving.send(frames.settings((frames.INITIAL_WINDOW, 0), (frames.TABLE_SIZE, 0), (frames.MAX_FRAME, 16384)))
        origin.tell(settings)
        time.sleep(0.1)
        origin.tell(lambda: serving.reader.decoder.set(0))
        conn.send(frames.data(stream.ident, b"y" * 60_000))
        streams = [conn.get(service, f"/after-{number}", more=[("x-same", "a" * 50)]) for number in range(20)]
        conn.wait(*streams)
        bad = [one for one in streams if one.status != 200]
        demand(not bad, f"{len(bad)} of 20: {bad[:1]}, {conn.outcome()} {conn.goaway}, {origin.faults}")
        origin.tell(lambda: serving.send(frames.settings((frames.INITIAL_WINDOW, 65535), (frames.TABLE_SIZE, 4096))))
        origin.tell(lambda: serving.reader.decoder.set(4096))
        conn.send(frames.data(stream.ident, b"z", True))
        conn.wait(stream)
        demand(stream.status == 200 and stream.header("x-got") == "61001", f"{conn.outcome(stream)}: {stream}, {origin.faults}")
    demand(not origin.faults, f"upstream, the router broke the rules: {origin.faults}")


LIES = {
    "CRLF in a value": [(":status", "200"), ("x-a", "a\r\nx-evil: b")],
    "a response in a value": [(":status", "200"), ("x-a", "a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")],
    "NUL in a value": [(":status", "200"), ("x-a", "a\0evil")],
    "an upper-case name": [(":status", "200"), ("X-Evil", "b")],
    "a name with a space": [(":status", "200"), ("x evil", "b")],
    "a name with a colon": [(":status", "200"), ("x:evil", "b")],
    "no status": [("x-evil", "b")],
    "two statuses": [(":status", "200"), (":status", "404"), ("x-evil", "b")],
    "a status behind a field": [("x-evil", "b"), (":status", "200")],
    "a status that is no number": [(":status", "2o0"), ("x-evil", "b")],
    "a status with CRLF": [(":status", "200\r\nx-evil: b")],
    "a status of 1": [(":status", "1"), ("x-evil", "b")],
    "a path": [(":status", "200"), (":path", "/evil")],
    "an unknown pseudo-header": [(":status", "200"), (":evil", "b")],
    "connection": [(":status", "200"), ("connection", "x-evil")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked"), ("x-evil", "b")],
    "two lengths": [(":status", "200"), ("content-length", "3"), ("content-length", "4"), ("x-evil", "b")],
    "a length that is too long": [(":status", "200"), ("content-length", "30"), ("x-evil", "b")],
    "a length that is too short": [(":status", "200"), ("content-length", "1"), ("x-evil", "b")],
    "unasked 101": [(":status", "101"), ("x-evil", "b")],
}


def lie(site, listener, fields):
    """H2-9, the other way round: a service whose head is malformed is 502, and nothing of it is told on."""
    site.clear(ORIGIN)
    lengths = any(name == "content-length" for name, _ in fields)
    dropped = False

    def on_call(call):
        if not call.whole or call.answered:
            return
        if call.path == "/lie":
            call.answered = True
            call.conn.send(frames.headers(call.ident, frames.block(fields), False) + frames.data(call.ident, b"evil"[:3], True))
        else:
            call.conn.answer(call)

    site.origin.on_call = on_call
    try:
        if listener == "h1h2":
            with Conn(site.router.ports[listener]) as conn:
                conn.send(b"GET /lie HTTP/1.1\r\nhost: origin\r\nconnection: close\r\n\r\n")
                while conn.more():
                    pass
                answer = conn.buffer
            dropped = (":path", "/evil") in fields and answer.startswith(b"HTTP/1.1 200 ")
            good = answer.startswith(b"HTTP/1.1 502 ") or dropped or lengths and (not answer.endswith(b"evi") or b"l5d-err" in answer)
            demand(good, f"answered {answer[:300]!r}")
            demand(lengths or b"evil" not in answer, f"the lie is told on: {answer[:300]!r}")
        else:
            with site.connect(listener) as conn:
                stream = conn.get(ORIGIN, "/lie")
                conn.wait(stream)
                broken, dropped = stream.code is not None, (":path", "/evil") in fields and stream.status == 200
                demand(stream.status == 502 or dropped or lengths and broken, f"{conn.outcome(stream)}: {stream}")
                demand(lengths or "evil" not in repr(stream.fields), f"the lie is told on: {stream}")
        for _ in range(2):
            if listener != "h1h2":
                site.good(ORIGIN, listener)
    finally:
        site.origin.on_call = None
    site.router.unharmed()
    excepted(DROPPED, dropped)


class Silent:
    """H2-5: blocks of headers that begin and are never ended, and connections that say nothing, held while all else runs."""

    def __init__(self, site):
        self.site, self.held, self.started = site, [], time.monotonic()
        for listener in site.listeners([*TO_H1, *TO_H2]):
            for kind in ["half a head", "half a frame", "half a preface"]:
                conn = site.connect(listener, begin=kind != "half a preface")
                if kind == "half a head":
                    conn.send(frames.frame(frames.HEADERS, 1, 1, frames.block(frames.request("x", "/evil"))))
                elif kind == "half a frame":
                    conn.send(b"\0\0\x50\x01\x05\0\0\0\x01\x82")
                else:
                    conn.send(frames.PREFACE[:10])
                self.held.append((listener, kind, conn))

    def check(self, kind):
        """They are closed in the time that a head has, with more for a busy machine."""
        left = []
        for listener, what, conn in self.held:
            if what != kind:
                continue
            until = max(0.2, self.started + 60 - time.monotonic())
            if not conn.pump(lambda conn=conn: conn.closed or conn.goaway is not None, until):
                left.append(listener)
            else:
                self.site.note("H2-5", f"{kind}: {conn.outcome()}")
            conn.close()
        demand(not left, f"after {time.monotonic() - self.started:.0f} s these are open: {left}")


def run(site, results):
    def attempt(ident, name, kinds, work):
        for listener in site.listeners(kinds):
            results.attempt(ident, name, listener, lambda listener=listener: work(listener))

    attempt("H2-4", "2,000 calls cancelled per second for 5 s", ["h2h2"], lambda listener: cancelling(site, listener, 2000, 5))
    attempt("H2-4", "2,000 calls cancelled per second for 2 s", ["h2h2tls"], lambda listener: cancelling(site, listener, 2000, 2))
    attempt("H2-4", "500 calls cancelled per second for 2 s", ["h2h1", "detect"],
            lambda listener: cancelling(site, listener, 500, 2))
    for what in ["streams", "connection"]:
        attempt("H2-8", f"no window of the {what}", ["stallh1", "stallh2"], lambda listener, what=what: stalled(site, listener, what))
        attempt("H2-8", f"no window of the {what}, and other clients", ["stallh1", "stallh2"],
                lambda listener, what=what: others_served(site, listener, what))
    for turn, (name, length, parts, slow) in enumerate(LENGTHS):
        kinds = [TO_H1[turn % 4], "h2h1", TO_H2[turn % 2]]
        for late in [False, True] if slow and parts else [False]:
            attempt("H2-11", f"{name}{', later' if late else ''}", dict.fromkeys(kinds),
                    lambda listener, length=length, parts=parts, late=late: mismatch(site, listener, length, parts, late))
    for length in [0, 5]:
        for wait in [0, 0.1]:
            attempt("H2-11", f"more than {length}{', later' if wait else ''}", ["h2h1", "h2h2", "detecttls"],
                    lambda listener, length=length, wait=wait: surplus(site, listener, length, wait))
    attempt("H2-14", "10,000 idle streams", ["h2h2", "h2h2tls"], lambda listener: idle_streams(site, listener, 10_000, 32))
    # Each is a connection to the service, of which the router has as many as it has descriptors for.
    attempt("H2-14", "500 idle streams", ["h2h1", "detect"], lambda listener: idle_streams(site, listener, 500, 64))
    attempt("H2-14", "identifiers that jump", ["h2h1", "h2h2tls", "detect"], lambda listener: last_ident(site, listener))
    attempt("H2-14", "a client that goes", ["h2h1tls", "h2h2", "detect"], lambda listener: client_goes(site, listener))
    attempt("H2-14", "shrinking settings", ["h2h1", "h2h2", "detecttls"], lambda listener: shrinking(site, listener))
    attempt("H2-14", "shrinking settings of a service", TO_H2, lambda listener: shrinking_service(site, listener))
    for method in ["GET", "POST"]:
        for cut in [False, True]:
            attempt("H2-14", f"a service that goes, {method}{', and closes' if cut else ''}", TO_H2,
                    lambda listener, method=method, cut=cut: service_goes(site, listener, method, cut))
    for name, fields in LIES.items():
        attempt("H2-9", f"a service's {name}", ["h1h2", "h2h2"], lambda listener, fields=fields: lie(site, listener, fields))
