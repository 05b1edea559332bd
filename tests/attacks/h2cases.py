"""Heads that must be refused (H2-9, 10, 12, 13, O7), and those that look like it and must come through."""

import frames
from h2lab import DROPPED, HOST, ORIGIN, TO_H1, TO_H2, encode, excepted
from h2origin import settled
from lab import demand
from wire import parse_requests

ERRORS = {"RST_STREAM PROTOCOL_ERROR", "GOAWAY PROTOCOL_ERROR"}
# A field that is no field may be taken for a broken block, which ends the connection: rule R lets it.
BLOCK = ERRORS | {"GOAWAY COMPRESSION_ERROR"}
STATUS = ERRORS | {"400"}
BASE = frames.request(HOST, "/evil")


# This is legal, and names no service: what is not found is not counted as refused.
NAMELESS = "host '' alone"


class Head:
    """A head that must be refused. `trailers` are sent behind a good head and a body instead of it.

    `dropped` are bytes that the codec may leave out instead, if nobody behind it sees them.
    """

    def __init__(self, ident, name, fields, allowed, trailers=None, dropped=None):
        self.ident, self.name, self.fields, self.allowed = ident, name, fields, allowed
        self.trailers, self.dropped = trailers, dropped


def having(key, value):
    """An ordinary head with another value of a pseudo-header; None: without it."""
    return [(name, value if name == key else old) for name, old in BASE if name != key or value is not None]


def plus(*fields):
    return [*BASE, *fields]


def values():
    odd = [("CR", "a\rb"), ("LF", "a\nb"), ("NUL", "a\0b"), ("CRLF and a field", "a\r\nx-evil: b"),
           ("CRLF and a request", "a\r\n\r\nGET /evil HTTP/1.1\r\nhost: x\r\n\r\n"), ("CR at the end", "a\r"),
           ("LF first", "\na")]
    cases = [Head("H2-9", f"{name} in a value", plus(("x-a", value)), BLOCK) for name, value in odd]
    edges = [("space first", " a"), ("space last", "a "), ("tab first", "\ta"), ("tab last", "a\t")]
    cases += [Head("H2-9", f"{name} in a value", plus(("x-a", value)), BLOCK | STATUS) for name, value in edges]
    controls = [("escape", "a\x1b[31m"), ("DEL", "a\x7f")]
    return cases + [Head("H2-9", f"{name} in a value", plus(("x-a", value)), BLOCK | STATUS) for name, value in controls]


def names():
    odd = ["X-Up", "x-uP", "x up", "x:up", "", "x\0a", "x\r\nx-evil", "x\ta", "x\xe4", "x(a)", "x\x7f", "content-length ",
           "transfer-encoding\t", "Content-Length", "Transfer-Encoding", " host"]
    return [Head("H2-9", f"name {name!r}", plus((name, "5")), BLOCK) for name in odd]


def pseudo():
    paths = ["/evil x", "/evil\r\nx-evil: y", "/evil HTTP/1.1\r\nhost: x\r\n\r\n", "/evil\0", "/evil\tx", "evil", "", "*",
             "/evil\x7f", "/evil#x", "http://%HOST%/evil", "/evil\nx", "//\r\n", "?evil"]
    cases = [Head("H2-9", f":path {value!r}", having(":path", value), STATUS | BLOCK, dropped=b"evil#" if "#" in value else None)
             for value in paths]
    methods = ["GE T", "", "G@T", "GET\r\nx-evil: y", "GET /x HTTP/1.1\r\nhost: x\r\n\r\n", "GET\0", " GET", "GET ", "get",
               "M" * 33]
    cases += [Head("H2-9", f":method {value!r}", having(":method", value), STATUS | BLOCK | {"501"}) for value in methods]
    schemes = ["ht tp", "", "http\r\nx-evil: y", "1http", "http://evil/", "ht/tp", "http\0", "http:"]
    cases += [Head("H2-9", f":scheme {value!r}", having(":scheme", value), STATUS | BLOCK) for value in schemes]
    cases += [Head("H2-9", f"without {key}", having(key, None), STATUS) for key in [":method", ":scheme", ":path"]]
    cases += [Head("H2-9", f"{pair[0]} twice", [*BASE[:at + 1], pair, *BASE[at + 1:]], BLOCK)
              for at, pair in enumerate(BASE)]
    cases += [Head("H2-9", f"{pair[0]} after a field", [*BASE[:at], *BASE[at + 1:], ("x-a", "b"), pair], BLOCK)
              for at, pair in enumerate(BASE)]
    cases += [Head("H2-9", f"{pair[0]} behind a field again", plus(("x-a", "b"), pair), BLOCK) for pair in BASE]
    unknown = [(":evil", "x"), (":status", "200"), (":", "x"), (":host", HOST), (":Path", "/x"), (":protocol", "websocket")]
    cases += [Head("H2-9", f"{name} in a request", [*BASE, (name, value)], BLOCK) for name, value in unknown]
    cases.append(Head("O7", "an override as a pseudo-header", [*BASE, (":l5d-dtab", "/svc => /$/inet/127.1/1")], BLOCK))
    return cases


def trailing():
    """Trailers that are none. The head is under way when they come."""
    odd = [(":path", "/evil"), (":status", "200"), (":evil", "x"), ("X-Up", "a"), ("x-a", "a\r\nb"), ("x a", "b"),
           ("connection", "close"), ("transfer-encoding", "chunked")]
    head = frames.request(HOST, "/evil", "POST")
    return [Head("H2-9" if name[0] not in "ct" else "H2-10", f"trailer {name!r}: {value!r}", head, BLOCK,
                 trailers=[(name, value)], dropped=name.encode() if name in (":path", ":status") else None)
            for name, value in odd]


def hops():
    """H2-10."""
    odd = [("connection", "close"), ("connection", "x-a"), ("connection", ""), ("transfer-encoding", "chunked"),
           ("transfer-encoding", "identity"), ("keep-alive", "timeout=5"), ("upgrade", "websocket"), ("upgrade", "h2c"),
           ("proxy-connection", "keep-alive"), ("te", "gzip"), ("te", "trailers, gzip"), ("te", "chunked")]
    return [Head("H2-10", f"{name}: {value}", plus((name, value)), STATUS) for name, value in odd]


def authorities():
    """H2-12."""
    odd = ["user@%HOST%", "user:secret@%HOST%", "%HOST%:0", "%HOST%:65536", "%HOST%:x", "a b", "a,b", "%HOST%/evil",
           "%HOST%?evil", "%HOST%#evil", "%HOST%\\evil", "<%HOST%>", "%HOST%\r\nx-evil: y", "%HOST%\xe4", "http://%HOST%/"]
    cases = [Head("H2-12", f":authority {value!r}", having(":authority", value), STATUS | BLOCK) for value in odd]
    bare = having(":authority", None)
    cases.append(Head("H2-12", "neither :authority nor host", bare, STATUS))
    cases.append(Head("H2-12", "an empty :authority and no host", having(":authority", ""), STATUS))
    hosts = ["", "user@%HOST%", "a b", "a,b", "%HOST%:0", "%HOST%/evil"]
    cases += [Head("H2-12", f"host {value!r} alone", [*bare, ("host", value)], STATUS) for value in hosts]
    cases.append(Head("H2-12", "two hosts", [*bare, ("host", HOST), ("host", "other")], STATUS))
    return cases


def tunnels():
    """H2-13."""
    refused = STATUS | {"403", "405", "501", "RST_STREAM REFUSED_STREAM", "RST_STREAM CONNECT_ERROR"}
    plain = [(":method", "CONNECT"), (":authority", HOST + ":443")]
    extended = [(":method", "CONNECT"), (":protocol", "websocket"), *BASE[1:]]
    return [Head("H2-13", "CONNECT", plain, refused), Head("H2-13", "CONNECT with a path", [plain[0], *BASE[1:]], refused),
            Head("H2-13", "CONNECT to a port of this host", [plain[0], (":authority", "127.0.0.1:22")], refused),
            Head("H2-13", "extended CONNECT", extended, refused),
            Head("H2-13", ":protocol with GET", [*BASE, (":protocol", "websocket")], refused)]


HEADS = [*values(), *names(), *pseudo(), *trailing(), *hops(), *authorities(), *tunnels()]


def refuse(site, case, listener, pieces):
    """Rule R for one head: how it ends, that nothing goes upstream, that others are served. Returns if it was counted."""
    service = site.service(listener)
    site.clear(service)
    before = site.router.rejected()
    with site.connect(listener) as conn:
        wanted = [site.good(service, listener, conn)]
        head = encode(case.fields, service)
        stream = conn.open(head, end=case.trailers is None, pieces=pieces)
        if case.trailers is not None:
            conn.send(frames.data(stream.ident, b"hello") +
                      frames.headers(stream.ident, frames.block(case.trailers)))
        outcome = conn.end(stream)
        site.note(case.ident, outcome)
        dropped = case.dropped is not None and outcome == "200"
        demand(dropped or outcome in case.allowed, f"it ended with {outcome}: {stream}")
        if not conn.over():
            wanted.append(site.good(service, listener, conn))
    wanted.append(site.good(service, listener))
    if dropped:
        site.upstream(service, [*wanted, "/evil"])
        sent = b"".join(site.lab.relays[service].sent()) if service != ORIGIN else \
            repr([(call.path, call.trailers) for call in site.origin.seen()]).encode()
        demand(case.dropped not in sent, f"it goes on: {sent[-300:]}")
        excepted(DROPPED)
    site.upstream(service, wanted, loose=case.trailers is not None)
    if case.trailers is not None and service == ORIGIN:
        open_calls = [call for call in site.origin.seen() if not call.whole]
        demand(settled(lambda: all(call.code is not None for call in open_calls)), f"it is not ended: {open_calls}")
    return site.router.rejected() == before + 1 or case.name == NAMELESS


def passing():
    """Heads that come through: name, fields, body, and what the service must get of them."""
    return [
        ("H2-10", "te: trailers", plus(("te", "trailers")), None),
        ("H2-12", "host alone", [*having(":authority", None), ("host", HOST)], None),
        ("H2-12", "host as :authority", plus(("host", HOST)), None),
        ("H2-9", "a tab inside a value", plus(("x-a", "a\tb")), ("x-a", "a\tb")),
        ("H2-9", "an empty value", plus(("x-a", "")), ("x-a", "")),
        ("H2-9", "8 bits in a value", plus(("x-a", "\xe4")), ("x-a", "\xe4")),
        ("H2-6", "64 crumbs of a cookie", plus(*[("cookie", f"crumb{number}=value{number}") for number in range(64)]),
         ("cookie", "; ".join(f"crumb{number}=value{number}" for number in range(64)))),
    ]


def fields_upstream(site, service, path):
    """The fields that the service got of its only request to this path."""
    if service == ORIGIN:
        found = [call.fields for call in site.origin.seen() if call.path == path]
    else:
        requests = [one for stream in site.lab.relays[service].sent() for one in parse_requests(stream)[0]]
        found = [[(":authority", value) if key == "host" else (key, value) for key, value in fields]
                 for _, target, fields, _ in requests if target == path]
    demand(len(found) == 1, f"{len(found)} requests to {path} went to {service}")
    return found[0]


def accept(site, fields, field, listener):
    """A head comes through once, with this field."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        stream = conn.open(encode(fields, service))
        outcome = conn.end(stream)
        demand(outcome == "200", f"it ended with {outcome}: {stream}")
    site.upstream(service, ["/evil"])
    got = fields_upstream(site, service, "/evil")
    hosts = {value for key, value in got if key in (":authority", "host")}
    demand(hosts == {service}, f"it was for {hosts}: {got}")
    if field is not None:
        name, value = field
        # Over HTTP/2 the crumbs of a cookie may stay apart.
        join = "; " if name == "cookie" and service == ORIGIN else ", "
        found = join.join(value for key, value in got if key == name)
        demand(found == value, f"{name} is {found!r}, not {value!r}")


def conflict(site, listener):
    """H2-12: `:authority` and `host` differ: refused, or `:authority` wins everywhere."""
    service = site.service(listener)
    for other in ["127.0.0.1", "nobody", site.lab.names()[0] + ".evil"]:
        site.clear(service)
        with site.connect(listener) as conn:
            stream = conn.open(encode(plus(("host", other)), service))
            outcome = conn.end(stream)
        site.note("H2-12", outcome)
        demand(outcome in STATUS | {"200"}, f"it ended with {outcome}: {stream}")
        wanted = site.good(service, listener)
        site.upstream(service, ["/evil", wanted] if outcome == "200" else [wanted])
        if outcome == "200":
            got = fields_upstream(site, service, "/evil")
            hosts = [value for key, value in got if key in (":authority", "host")]
            demand(set(hosts) == {service}, f"the service was told {hosts}")
            demand(not [pair for pair in got if other in pair[1] and pair[0] != "x-forwarded-for"], f"it goes on: {got}")


def trailers_say_nothing(site, listener):
    """O7: an override in trailers routes nothing, and is not there for the next hop to believe."""
    service = site.service(listener)
    site.clear(service)
    with site.connect(listener) as conn:
        stream = conn.open(encode(frames.request(HOST, "/evil", "POST"), service), end=False)
        trailers = [("l5d-dtab", "/svc => /$/inet/127.1/1"), ("l5d-ctx-dtab", "/svc => /$/inet/127.1/1"), ("x-kept", "1")]
        conn.send(frames.data(stream.ident, b"hello") + frames.headers(stream.ident, frames.block(trailers)))
        outcome = conn.end(stream)
        site.note("O7", outcome)
        demand(outcome in ERRORS | {"200"}, f"it ended with {outcome}: {stream}")
    if outcome == "200":
        site.upstream(service, ["/evil"])
        sent = b"".join(site.lab.relays[service].sent()) if service != ORIGIN else \
            repr([call.trailers for call in site.origin.seen()]).encode()
        demand(b"dtab" not in sent, f"it goes on: {sent[-300:]}")
        demand(service != ORIGIN or b"x-kept" in sent, f"all trailers are gone: {sent}")


def no_tunnel(site, listener):
    """H2-13: extended CONNECT is not offered."""
    with site.connect(listener) as conn:
        demand(conn.settle(), f"no settings: {conn.outcome()}")
        demand(not conn.settings.get(frames.CONNECT_PROTOCOL), f"it is offered: {conn.settings}")


def run(site, results):
    uncounted = {}
    for turn, case in enumerate(HEADS):
        to_h1, to_h2 = site.listeners(TO_H1), site.listeners(TO_H2)
        for listener in [to_h1[turn % len(to_h1)], to_h2[turn % len(to_h2)]]:
            pieces = 1 + turn % 2
            where = f"{listener}, {'whole' if pieces == 1 else 'continued'}"

            def work(case=case, listener=listener, pieces=pieces):
                if not refuse(site, case, listener, pieces):
                    uncounted.setdefault(case.ident, []).append(f"{case.name} [{listener}]")
            results.attempt(case.ident, case.name, where, work)
    for ident in sorted({case.ident for case in HEADS}):
        found = uncounted.get(ident, [])
        results.attempt(ident, "each is counted once in rejected_total", "all",
                        lambda found=found: demand(not found, f"{len(found)} are not: {found}"))
    everywhere = site.listeners([*TO_H1, *TO_H2])
    for ident, name, fields, field in passing():
        for listener in everywhere:
            results.attempt(ident, f"{name} comes through", listener,
                            lambda fields=fields, field=field, listener=listener: accept(site, fields, field, listener))
    for listener in everywhere:
        results.attempt("H2-12", ":authority and host differ", listener, lambda listener=listener: conflict(site, listener))
        results.attempt("O7", "an override in trailers", listener,
                        lambda listener=listener: trailers_say_nothing(site, listener))
        results.attempt("H2-13", "extended CONNECT is not offered", listener, lambda listener=listener: no_tunnel(site, listener))
