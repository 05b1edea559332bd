"""Group X: headers, identities and paths."""

import json
import os
import re

from lab import demand
from wire import eventually

SPOOFED = ["x-forwarded-for: 10.6.6.6", "X-Forwarded-Proto: evil", "x-forwarded-host: evil", "x-forwarded-port: 666",
           "forwarded: for=evil", "x-real-ip: 10.6.6.6", "x-forwarded-client-cert: Hash=evil", "l5d-client-id: evil",
           "l5d-reqid: evil", "l5d-dst-service: /svc/evil", "l5d-dst-client: /evil", "l5d-dst-residual: /evil",
           "l5d-sample: 1.0", "l5d-ctx-dtab: /evil => /evil", "l5d-success-class: evil",
           "finagle-http-retryable-request: evil"]
ALIASES = ["l5d_dtab: /svc => /evil", "l5d_ctx_dtab: /svc => /evil", "l5d-ctx_dtab: /svc => /evil", "l5d_reqid: evil",
           "l5d_dst-service: evil", "x_forwarded_for: evil", "x-forwarded_for: evil", "X_Forwarded_Proto: evil",
           "x_forwarded_client_cert: evil", "x_real_ip: evil"]
TARGETS = ["/%2e%2e/x", "/a/../b", "//a", "/./b", "/%2F", "/a;x=y", "/a\\b", "/%c0%af", "/?a=/../b", "/a%00b", "/..;/x",
           "/%252e%252e/x", "/a'\"<>{}|^`"]


def values(fields, name):
    return [value for key, value in fields if key == name]


def nominated(lab, name):
    """X1: `Connection` cannot take away what the next hop trusts."""
    fields = lab.fields(name, [
        "Connection: close, X-Forwarded-For, l5d-ctx-deadline, l5d-ctx-dtab, authorization, cookie, host, Via, x-mine",
        "X-Forwarded-For: 10.0.0.1", "Authorization: secret", "Cookie: a=b", "x-mine: gone", "x-kept: kept",
        "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: gzip", "Proxy-Authorization: gone",
        "l5d-ctx-dtab: /a => /b", "Content-Type: text/plain"])
    for key, wanted in [("host", [lab.alias(name)]), ("authorization", ["secret"]), ("cookie", ["a=b"]),
                        ("x-forwarded-for", ["10.0.0.1"]), ("x-kept", ["kept"]), ("l5d-ctx-dtab", ["/a=>/b"]),
                        ("x-mine", []), ("keep-alive", []), ("proxy-connection", []), ("te", []),
                        ("proxy-authorization", []), ("connection", [])]:
        found = [value.replace(" ", "") if key == "l5d-ctx-dtab" else value for value in values(fields, key)]
        demand(found == wanted, f"{key}: the server got {found}, not {wanted}")
    demand(len(values(fields, "l5d-dst-service")) == 1 and len(values(fields, "via")) == 1, f"router's own: {fields}")


def nominated_framing(lab, name):
    body = lab.fields(name, ["Connection: content-length, transfer-encoding, l5d-dst-service"], method="POST", body=b"hi")
    demand(values(body, "content-length") == ["2"], f"the length went away: {body}")
    demand(values(body, "l5d-dst-service") == [f"/svc/{lab.alias(name)}"], f"the router's own went away: {body}")


def spoofed(lab, name):
    """X2: nothing of it is believed of strangers."""
    fields = lab.fields(name, SPOOFED, listener="edge")
    demand(not [field for field in fields if "evil" in field[1] or "10.6.6.6" in field[1]], f"it came through: {fields}")


def spoofed_inside(lab, name):
    """X2: what only the router says is never a caller's, trusted or not."""
    fields = lab.fields(name, SPOOFED)
    for key in ["l5d-dst-service", "l5d-dst-client", "l5d-dst-residual", "l5d-reqid", "l5d-success-class",
                "x-forwarded-client-cert"]:
        demand(not any("evil" in value for value in values(fields, key)), f"{key} came through: {fields}")


def aliases(lab, name, listener):
    """X3."""
    fields = lab.fields(name, [*ALIASES, "x_kept: kept"], listener=listener)
    demand(not [field for field in fields if "evil" in field[1]], f"it came through: {fields}")
    demand(values(fields, "x_kept") == ["kept"], f"an innocent one was dropped: {fields}")


def samples(lab, name):
    """X4: no caller makes the router record more; foreign trace contexts pass as they are."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    fields = lab.fields(name, ["l5d-sample: 1", f"traceparent: {trace}", "l5d-sample: 1.0"])
    demand(values(fields, "l5d-sample") == [], f"l5d-sample goes on: {fields}")
    demand(values(fields, "traceparent") == [trace], f"traceparent changed: {fields}")


def deadlines(lab, name):
    """X5: over is 504 for the trusted, nonsense is ignored, strangers set none."""
    host = lab.alias(name)
    lab.silent("a deadline that is over", (504,), lambda: lab.ask(host, ["l5d-ctx-deadline: 1 2"]))
    for value in ["soon", "", "5", "-1 -1", "1 2 3", "0 32503680000000000000", "9" * 26 + " " + "9" * 26,
                  "0 18446744073709551615", "0x10 0x10", "1e9 1e9"]:
        response = lab.ask(host, [f"l5d-ctx-deadline: {value}"])
        demand(response.status == 200, f"deadline {value!r}: {response}")
    fields = lab.fields(name, ["grpc-timeout: 99999999H"])
    demand(values(fields, "grpc-timeout") == ["99999999H"], f"grpc-timeout changed: {fields}")
    fields = lab.fields(name, ["l5d-ctx-deadline: 1 2"], listener="edge")
    demand(values(fields, "l5d-ctx-deadline") == [], f"a stranger's deadline goes on: {fields}")


def paths(lab, name):
    """X6: what is forwarded is what came; the router decides nothing by paths, but by the first segment where told."""
    for target in TARGETS:
        lab.clear(name)
        response = lab.ask(lab.alias(name), target=target)
        sent = [one for stream in lab.relays[name].sent() for one in stream.split(b" ")[1:2]]
        demand(sent == [target.encode()], f"{target} became {sent} ({response})")
    lab.silent("an encoded name", (400, 502), lambda: lab.ask("x", target=f"/%77{lab.alias(name)[1:]}/x", listener="path"))


def reflections(lab):
    """X9: what a client sent is never markup, and strangers are told nothing."""
    evil = "<script>alert(1)</script>"
    for ask in [lambda on: lab.ask("nobody", target=f"/{evil}", listener=on),
                lambda on: lab.ask("nobody", ["X-A: " + evil], target="/?" + evil, listener=on),
                lambda on: lab.ask("nobody", [f"l5d-dtab: /svc => /{evil}"], listener=on),
                lambda on: lab.ask("nobody", [f"l5d-dtab: {evil}"], listener=on),
                lambda on: lab.ask(evil, listener=on)]:
        for listener in ["plain", "edge"]:
            response = ask(listener)
            demand(response.status >= 400, f"{response}")
            kind = response.header("content-type")
            demand(kind in ("text/plain", None) and (kind or not response.body), f"{kind}: {response}")
            error = response.header("l5d-err") or ""
            demand("<" not in error and "\n" not in error, f"l5d-err: {error}")
            if listener == "edge":
                told = re.fullmatch(rb"[a-z-]+ \(request id [0-9a-f]{16}\)\n|", response.body)
                demand(told and not error, f"a stranger is told {response}")


def logs(lab, name):
    """X8: one line per event, whatever a client sends."""
    evil = ["\x1b[31mevil", "evil\x7f", "\u00e4\u00ff\u0085evil", 'evil" 200 "forged', "{\"evil\": 1}\\n", "\u202eevil"]
    for text in evil:
        raw = text.encode("utf-8").decode("latin-1")
        for listener in ["plain", "edge"]:
            lab.ask(lab.alias(name), [f"User-Agent: {raw}", f"Referer: {raw}"], target="/logged", listener=listener)
            lab.ask("nobody", [f"l5d-dtab: {raw}"], target="/logged?" + raw.replace(" ", ""), listener=listener)
            lab.ask(raw, [f"X-A: {raw}"], listener=listener)
    done = lab.ask(lab.alias(name), target="/last-logged")
    demand(done.status == 200, f"{done}")
    path = os.path.join(lab.router.folder, "access.log")

    def written():
        with open(path, "rb") as file:
            data = file.read()
        return data if b"/last-logged" in data else None

    data = eventually("the log is written", written, 60)
    lines = data.decode("utf-8").splitlines()
    demand(len(lines) == data.count(b"\n"), "a line holds what some programs take for its end")
    for line in lines:
        json.loads(line)
    with open(os.path.join(lab.router.folder, "access.linkerd.log"), "rb") as file:
        both = [data, file.read(), lab.router.logged().encode("utf-8")]
    for text in both:
        found = re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae|\xc2[\x80-\x9f]", text)
        demand(not found, f"a control character in a log: {text[max(0, found.start() - 80):found.end() + 80] if found else ''!r}")


def run(lab, results, _options):
    for name in lab.names():
        results.attempt("X1", "Connection names what matters", name, lambda name=name: nominated(lab, name))
        results.attempt("X1", "Connection names the framing", name, lambda name=name: nominated_framing(lab, name))
        results.attempt("X2", "spoofed, from a stranger", name, lambda name=name: spoofed(lab, name))
        results.attempt("X2", "spoofed, from inside", name, lambda name=name: spoofed_inside(lab, name))
        for listener in ["plain", "edge"]:
            results.attempt("X3", "underscores", f"{name}, {listener}",
                            lambda name=name, listener=listener: aliases(lab, name, listener))
        results.attempt("X4", "sampling", name, lambda name=name: samples(lab, name))
        results.attempt("X5", "deadlines", name, lambda name=name: deadlines(lab, name))
        results.attempt("X6", "paths", name, lambda name=name: paths(lab, name))
    results.attempt("X8", "logs", "all", lambda: logs(lab, lab.names()[0]))
    results.attempt("X9", "error pages", "all", lambda: reflections(lab))
