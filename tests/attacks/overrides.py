"""Group O: what a request may say about its route, and what none may."""

from lab import demand
from wire import Conn

SPELLINGS = ["127.1", "127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "0x7f000001", "017700000001", "::1",
             "\\x5b::1\\x5d", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::",
             "0:0:0:0:0:0:0:1", "0.0.0.0", "0", "::", "fe80::1", "\\x5bfe80::1%eth0\\x5d", "169.254.1.1", "224.0.0.1",
             "ff02::1", "255.255.255.255", "localhost", "localhost.", "LOCALHOST", "web.localhost", "127.0.0.1.",
             "169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "0xa9fea9fe", "2852039166"]
FLOOD = 6000


def denied(lab, listener, dtab, host="web-00", reason=None, target="/x", method="GET"):
    """403, not one byte to any server, and both counters."""
    router = lab.router
    before = [router.rejected("override-denied"), sum(router.counters("override_denied_total").values())]
    response = lab.silent(dtab, (403,), lambda: lab.ask(host, [f"l5d-dtab: {dtab}"], target, method, listener=listener))
    found = router.counters("override_denied_total")
    after = [router.rejected("override-denied"), sum(found.values())]
    demand(after == [count + 1 for count in before], f"{dtab}: rejected and denied went from {before} to {after}")
    if reason:
        demand(any(reason in labels for labels in found), f"{dtab}: {reason} is not among {list(found)}")
    return response


def served(lab, wanted, fields, listener, host="web-00"):
    """The request is served, and by this server alone."""
    for name in lab.names():
        lab.clear(name)
    response = lab.ask(host, fields, listener=listener)
    demand(response.status == 200, f"{fields} on {listener}: {response}")
    for name in lab.names():
        lab.upstream(name, ["/x"] if lab.alias(name) == wanted else [])
    return response


TO_OTHER = "/svc/web-00 => /#/io.l5d.fs/web-01"


def ignored(lab):
    """O1."""
    before = sum(lab.router.counters("override_ignored_total").values())
    count = 0
    for header in ["l5d-dtab", "l5d-ctx-dtab", "L5D-CTX-DTAB", "l5d-override", "l5d-ctx-override"]:
        for value in ["/svc => /$/inet/169.254.169.254/80", TO_OTHER, "pr-1", "no ; dtab >>"]:
            served(lab, "web-00", [f"{header}: {value}"], "edge")
            count += 1
    after = sum(lab.router.counters("override_ignored_total").values())
    demand(after == before + count, f"override_ignored_total went from {before} to {after}, by {count} requests")
    fields = lab.fields(lab.names()[0], [f"l5d-ctx-dtab: {TO_OTHER}", "baggage: a=1,dtab=pr-1,b=2"], listener="edge")
    demand(not [field for field in fields if "dtab" in field[0] or "dtab" in field[1]], f"it goes on: {fields}")
    demand([value for key, value in fields if key == "baggage"] == ["a=1,b=2"], f"baggage: {fields}")


def metadata(lab):
    """O2."""
    for listener in ["plain", "policy"]:
        entry = "/svc" if listener == "plain" else "/svc/web-00"
        denied(lab, listener, f"{entry} => /$/inet/169.254.169.254/80", reason="metadata")
    lines = [line for line in lab.router.logged().splitlines() if "override denied" in line]
    for part in ["127.0.0.1", "/svc", "/$/inet/169.254.169.254/80", "metadata"]:
        demand(any(part in line for line in lines), f"{part} is not in the log")


def admin(lab):
    """O3: the data port refuses."""
    port = lab.router.ports["admin"]
    for target in [f"/$/inet/{port}", f"/$/inet/127.1/{port}", f"/$/inet/localhost/{port}", f"/$/inet/0/{port}"]:
        for entry in ["/svc/*", "/svc/web-00", "/svc"]:
            denied(lab, "plain", f"{entry} => {target}", target="/admin/shutdown", method="POST")
    demand(lab.router.process.poll() is None, "the router was stopped")


def browser(lab):
    """A2, and the other barrier of O3: the admin server refuses alone."""
    status, _ = lab.router.page("/admin/shutdown", "POST", {"Origin": "http://evil.example"})
    demand(status == 403, f"the admin server answered {status} to another origin")
    status, _ = lab.router.page("/admin/shutdown", "POST", {"Host": "web-00"})
    demand(status == 403, f"the admin server answered {status} to another Host")
    demand(lab.router.process.poll() is None, "the router was stopped")


def spelling(lab, host, listener):
    port = lab.relays[lab.names()[0]].port
    denied(lab, listener, f"/svc/web-00 => /$/inet/{host}/{port}")


def detours(lab):
    """O4, by other names."""
    port = lab.relays[lab.names()[0]].port
    for name in [f"/$/inet/{port}", f"/$/fixedinet/127.1/{port}", f"/$/io.buoyant.rinet/{port}/127.1",
                 f"/x ; /x => /$/io.buoyant.hostportPfx/y/127.1:{port} ; /y => /$/inet",
                 f"/$/com.twitter.finagle.namer.global/$/inet/127.1/{port}", f"/nobody | /$/inet/127.1/{port}"]:
        denied(lab, "plain", f"/svc/web-00 => {name}", reason="loopback")


def classes(lab):
    """O6."""
    for name in ["java.lang.Runtime", "io.buoyant.namer.unknown", "com.twitter.serverset/a/b", "io.l5d.fs/web-00", "",
                 "java.lang.Runtime/exec/sh"]:
        dtab = f"/svc/web-00 => /$/{name} | /#/io.l5d.fs/web-01"
        response = lab.silent(dtab, (400, 502), lambda dtab=dtab: lab.ask("web-00", [f"l5d-dtab: {dtab}"]))
        if name:
            demand("Unknown namer" in response.body.decode(), f"{name}: {response.body}")


def context(lab):
    """O7: nothing but the header counts, and of several the later."""
    spoofs = [f"l5d_ctx_dtab: {TO_OTHER}", f"l5d-ctx_dtab: {TO_OTHER}", f"dtab-local: {TO_OTHER}",
              "X-Dtab-01-A: L3N2Yy93ZWItMDA=", "X-Dtab-01-B: LyMvaW8ubDVkLmZzL3dlYi0wMQ==",
              f"x-l5d-dtab: {TO_OTHER}", "Connection: l5d-dtab, l5d-ctx-dtab"]
    for listener in ["edge", "named", "plain"]:
        served(lab, "web-00", spoofs, listener)
    served(lab, "web-01", [f"l5d-ctx-dtab: {TO_OTHER}", "Connection: l5d-ctx-dtab"], "plain")
    served(lab, "web-01", ["l5d-dtab: /svc/web-00 => /#/io.l5d.fs/web-00", f"L5D-Dtab: {TO_OTHER}"], "plain")
    served(lab, "web-00", ["l5d-dtab: /svc/web-00 => /#/io.l5d.fs/web-00", f"l5d-ctx-dtab: {TO_OTHER}"], "plain")
    for line in [f":l5d-dtab: {TO_OTHER}", f"l5d-dtab:\r\n {TO_OTHER}", f"l5d-dtab : {TO_OTHER}"]:
        lab.silent(line, (400,), lambda line=line: lab.ask("web-00", [line]))
    name = lab.names()[0]
    lab.clear(name)
    with Conn(lab.router.ports["plain"]) as conn:
        conn.send(f"POST /x HTTP/1.1\r\nHost: web-00\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
                  f"l5d-dtab: {TO_OTHER}\r\nl5d-ctx-dtab: {TO_OTHER}\r\n\r\n".encode())
        demand(conn.response().status == 200, "trailers")
    lab.upstream(name, ["/x"])
    demand(b"dtab" not in b"".join(lab.relays[name].sent()), "a trailer went on")


def baggage(lab):
    """O8."""
    many = ",".join(["a=1"] * 199)
    for text in ["a=1,dtab=none,b=2", "dtab=old", "x=y , dtab=theirs", "dtab=%0d%0aevil:1", "dtab", "dtab=", "dtab=../pr-1",
                 "dtab=PR-1;x=y,q", f"{many},dtab=pr-1"]:
        served(lab, "web-00", [f"baggage: {text}"], "named")
        lab.silent(text, (403,), lambda text=text: lab.ask("web-00", [f"baggage: {text}"], listener="strict"))
    for text in ["%64tab=pr-1", "DTAB=pr-1", "a=dtab=pr-1"]:
        served(lab, "web-00", [f"baggage: {text}"], "named")
    for text in ["dtab=pr-1", "dtab=%70r-1", "dtab=none,dtab=pr-1", "u=%20%2C;p=1,dtab=pr-1"]:
        served(lab, "web-01", [f"baggage: {text}"], "named")
    lab.silent("64 kB", (431,), lambda: lab.ask("web-00", ["baggage: dtab=pr-1,a=" + "x" * 65536], listener="named"))
    lab.silent("a set that leads to loopback", (403,),
               lambda: lab.ask("web-00", ["baggage: dtab=evil"], listener="named"))
    odd = "u=%20%2C;p=1 ,\tq=\"x\",k=v;;"
    fields = lab.fields(lab.names()[0], [f"baggage: {odd}"], listener="named")
    demand([value for key, value in fields if key == "baggage"] == [odd], f"the rest of baggage changed: {fields}")


def egress(lab):
    """O11: nothing of ours leaves."""
    name = lab.names()[2]
    fields = lab.fields(name, ["l5d-ctx-dtab: /a => /b", "l5d-override: pr-1", "l5d-ctx-deadline: 1 99999999999999999",
                               "l5d-anything: x", "baggage: a=1,dtab=pr-1,b=2", "l5d-ctx-trace: x"], listener="named")
    left = [field for field in fields if field[0].startswith("l5d") or "pr-1" in field[1] or "dtab" in field[1]]
    demand(not left, f"it leaves the mesh: {left}")
    demand([value for key, value in fields if key == "baggage"] == ["a=1,b=2"], f"baggage: {fields}")


def policy(lab):
    """O12: the policy is about the final name."""
    served(lab, "web-01", [f"l5d-dtab: {TO_OTHER}"], "policy")
    for dtab, reason in [("/svc/web-00 => /#/io.l5d.fs/web-02", "destination"),
                         ("/svc/web-00 => /nobody | /svc/web-02", "destination"), ("/svc => /#/io.l5d.fs/web-01", "prefix"),
                         ("/svc/* => /#/io.l5d.fs/web-01", "prefix"),
                         ("/svc/web-00 => /x ; /x => /#/io.l5d.fs/web-01", "prefix"),
                         (f"{TO_OTHER} ; /svc/web-00/a => /b ; /svc/web-00/c => /d", "size"),
                         (f"/svc/web-00 => /$/inet/127.1/{lab.relays[lab.names()[1]].port}", "loopback")]:
        denied(lab, "policy", dtab, reason=reason)
    response = denied(lab, "nobody", TO_OTHER, reason="caller")
    demand(response.header("l5d-err") is None, f"a stranger is told {response}")


def poison(lab):
    """O13: one source with ever new overrides has its share of the cache; base routes stay."""
    router = lab.router

    def lookups():
        """Names that were not in the cache, kept or used once."""
        metrics = router.metrics()
        return sum(metrics[f"rt/small/bindcache/path/{name}"] for name in ["misses", "oneshots"])

    for name in lab.names():
        demand(lab.ask(lab.alias(name), listener="small").status == 200, "a base route")
    lab.ask("web-00", listener="small")
    before, memory = lookups(), router.rss()
    with Conn(router.ports["small"], timeout=60) as conn:
        for start in range(0, FLOOD, 20):
            conn.send(b"".join(f"GET / HTTP/1.1\r\nHost: web-00\r\nl5d-dtab: /lane/{n} => /x ; {TO_OTHER}\r\n\r\n".encode()
                               for n in range(start, start + 20)))
            for _ in range(20):
                demand(conn.response().status == 200, "an override")
    misses = lookups()
    demand(misses >= before + FLOOD, f"the flood was not new: {misses - before} misses")
    for name in lab.names():
        demand(lab.ask(lab.alias(name), listener="small").status == 200, "a base route afterwards")
    demand(lookups() == misses, "a base route was thrown out")
    grown = router.rss() - memory
    demand(grown < 48 * 1024, f"memory grew by {grown} KiB")


def run(lab, results, _options):
    for ident, what, work in [("O1", "ignored where off", ignored), ("O2", "metadata", metadata), ("O3", "admin", admin),
                              ("A2", "a page of a browser", browser), ("O4", "detours", detours), ("O6", "classes", classes), ("O7", "spoofed context", context),
                              ("O8", "baggage", baggage), ("O11", "egress", egress), ("O12", "policy", policy),
                              ("O13", "cache", poison)]:
        results.attempt(ident, what, "all", lambda work=work: work(lab))
    for host in SPELLINGS:
        for listener in ["plain", "retrying", "policy"]:
            results.attempt("O4", host, listener, lambda host=host, listener=listener: spelling(lab, host, listener))
    results.add("O9", "trace-id re-attachment", "", "skipped", "the feature does not exist yet")
    results.add("O10", "signed tokens", "", "skipped", "the feature does not exist yet")
