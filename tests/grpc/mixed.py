"""HTTP/1 clients to HTTP/2 servers and the reverse, by curl: bodies, both protocols on one port, trailers both ways."""

import hashlib
import os
import re
import socket
import ssl

from load import Wrong, attempt, tool

from lab import Router
from mesh import HERE

# Listener, how curl speaks to it, and what the server behind must have been spoken to.
WAYS = [("up", "--http1.1", "HTTP/2.0"), ("up", "h2", "HTTP/2.0"),
        ("down", "h2", "HTTP/1.1"), ("down", "--http1.1", "HTTP/1.1")]
NAMES = {"--http1.1": "HTTP/1", "h2": "HTTP/2", "HTTP/2.0": "HTTP/2", "HTTP/1.1": "HTTP/1"}


def page(command, spoken):
    text = tool(command)
    if not re.match(r"HTTP/(1.1|2) 200", text) or f"x-protocol: {spoken}" not in text.lower().replace("http/", "HTTP/"):
        raise Wrong(f"not a page by {spoken}: {text[:400]}")
    return ""


def trailers(command, spoken):
    """curl shows trailers as it shows headers."""
    head, _, rest = tool(command).replace("\r", "").partition("\n\n")
    if "before the trailers" not in rest or not re.search(r"^x-checksum: 4711$", rest, re.M | re.I) or \
            not re.search(r"^x-second: too$", rest, re.M | re.I):
        raise Wrong(f"no trailers by {spoken}: {head[:200]} ... {rest[-300:]!r}")
    return ""


def upload(command, spoken, data):
    with open(data, "rb") as file:
        content = file.read()
    wanted, text = f"{len(content)} {hashlib.sha256(content).hexdigest()}", tool(command).strip()
    if text != wanted:
        raise Wrong(f"the server got {text}, not {wanted}, by {spoken}")
    return f"{len(content)} bytes"


def sent_trailers(command, port, authority):
    """A chunked request of HTTP/1 with a trailer, which curl cannot send; the server tells what it got."""
    raw = socket.create_connection(("127.0.0.1", port), 10)
    if authority:
        raw = ssl.create_default_context(cafile=authority).wrap_socket(raw, server_hostname="mesh.example")
    with raw:
        raw.sendall(b"POST /sum HTTP/1.1\r\nhost: mesh.example\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
                    b"te: trailers\r\ntrailer: x-sent\r\n\r\n5\r\nhello\r\n0\r\nx-sent: yes, by HTTP/1\r\n\r\n")
        answer = b""
        while data := raw.recv(65536):
            answer += data
    text = answer.decode("latin-1").lower()
    if "x-trailer-got: yes, by http/1" not in text:
        raise Wrong(f"the trailer did not arrive: {text[:400]}")
    return ""


def run(site, report, _quick):
    tools = site.tools
    if tools.peer is None or tools.curl is None:
        report.skip("mixed", "all", "no curl, or no go for the servers behind")
        return
    data = os.path.join(site.folder, "mixed-upload")
    with open(data, "wb") as file:
        file.write(os.urandom(3 << 20))
    ports = {name: site.server(name.removesuffix("secure"), "secure" in name).port
             for name in ("web", "websecure", "old", "oldsecure")}
    with open(os.path.join(HERE, "mixed.yaml"), encoding="utf-8") as file:
        router = site.keep(Router(site.binary, site.folder, "mixed", file.read(),
                                  ["admin", "up", "down", "uptls", "downtls"], "INFO", certs=site.certs, **ports))
    for secure in (False, True):
        topology = f"one, {'TLS' if secure else 'plain'}"
        for listener, how, spoken in WAYS:
            port = router.ports[listener + ("tls" if secure else "")]
            name = f"{NAMES[how]} to {NAMES[spoken]}"
            curl = [tools.curl, "-s", "--max-time", "20", "--resolve", f"mesh.example:{port}:127.0.0.1"]
            curl += ["--cacert", *site.authority(True)] if secure else []
            curl += [{"h2": "--http2" if secure else "--http2-prior-knowledge"}.get(how, how)]
            base = f"http{'s' if secure else ''}://mesh.example:{port}"
            attempt(report, "mixed", f"{name}: a page", topology, page, [*curl, "-i", base + "/page"], spoken)
            attempt(report, "mixed", f"{name}: trailers", topology, trailers, [*curl, "-i", base + "/trailers"], spoken)
            attempt(report, "mixed", f"{name}: upload of 3 MB", topology, upload,
                    [*curl, "-H", "expect:", "--data-binary", f"@{data}", base + "/sum"], spoken, data)
            if how == "--http1.1":
                attempt(report, "mixed", f"{name}: trailers of a request", topology, sent_trailers, [], port,
                        secure and site.authority(True)[0])
