"""Group N: names that try to leave what discovery says, and floods of names (N1, N4, N5), and X7."""

import os

from lab import demand
from wire import Conn, eventually

HOSTS = ["../secret", "../../etc/passwd", "../../../../../../../../etc/passwd", "a/../web-00", "..", ".", "..%2fsecret",
         "%2e%2e%2fsecret", "%2e%2e/secret", "a%2f..%2fweb-00", "..\\secret", "....//secret", ".hidden", "web-00%00",
         "web-00/", "WEB-00", "web-00.", "web-00:", "/web-00", "~root", "$HOME", "folder/inner", "link"]
PATHS = ["/../secret", "/%2e%2e/secret", "/..%2fsecret/x", "//secret", "/./web-00", "/.hidden/x", "/%2e/web-00",
         "/web-00%2f..%2fsecret", "/%77eb-00/x"]
NAMES = ["/../secret", "/\\x2e\\x2e/secret", "/\\x2e\\x2e\\x2fsecret", "/.hidden", "//secret", "/web-00\\x00", "secret",
         "/folder\\x2finner"]
FLOOD = 20_000


def outside(lab):
    """Files that no name may reach, with an address that would answer."""
    port = lab.relays[lab.names()[0]].port
    for path in [os.path.join(lab.router.folder, "secret"), os.path.join(lab.router.disco, ".hidden")]:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"127.0.0.1 {port}\n")


def known(lab):
    """The names that the others try to pass for are served by each of the three ways."""
    for response in [lab.ask("web-00"), lab.ask("x", target="/web-00/x", listener="path"),
                     lab.ask("x", ["l5d-name: /web-00"], listener="name"),
                     lab.ask("web-01", ["l5d-dtab: /svc/web-01 => /#/io.l5d.fs/web-00 | !"])]:
        demand(response.status == 200, f"{response}")


def traversal(lab, results):
    refused = (400, 502)
    results.attempt("N1", "good names", "all", lambda: known(lab))
    for host in HOSTS:
        results.attempt("N1", f"Host: {host}", "all",
                        lambda host=host: lab.silent(host, refused, lambda: lab.ask(host)))
    for path in PATHS:
        results.attempt("N1", f"path {path}", "all",
                        lambda path=path: lab.silent(path, refused, lambda: lab.ask("x", target=path, listener="path")))
    for name in NAMES:
        results.attempt("N1", f"l5d-name: {name}", "all", lambda name=name: lab.silent(
            name, refused, lambda: lab.ask("x", [f"l5d-name: {name}"], listener="name")))
        results.attempt("N1", f"override to {name}", "all", lambda name=name: lab.silent(name, refused, lambda: lab.ask(
            "web-00", [f"l5d-dtab: /svc/web-00 => /#/io.l5d.fs{name} | !"])))


def flood(lab, listener, count, line):
    """That many requests for names that do not exist, on one connection."""
    with Conn(lab.router.ports[listener], timeout=60) as conn:
        for start in range(0, count, 50):
            conn.send(b"".join(line(number).encode() for number in range(start, start + 50)))
            for _ in range(50):
                response = conn.response()
                demand(response.status == 502, f"answered {response}")


def series(lab):
    return len(lab.router.metrics())


def scan(lab, ident, what, line, lookups=None):
    """A flood leaves neither series nor memory, and the busy name is not looked up again."""
    def check():
        busy = lab.names()[0]
        flood(lab, "small", 500, line)
        lab.ask(lab.alias(busy), listener="small")
        before, memory = series(lab), lab.router.rss()
        flood(lab, "small", FLOOD, lambda number: line(number + 1000))
        demand(lab.ask(lab.alias(busy), listener="small").status == 200, "a busy name is still served")
        eventually("series are gone", lambda: series(lab) < before + 1500, 60)
        grown = lab.router.rss() - memory
        demand(grown < 48 * 1024, f"memory grew by {grown} KiB")
        if lookups is not None:
            found = lookups()
            demand(found == 0, f"{found} open files or watches more than before")
    return ident, what, check


def descriptors(lab):
    return len(os.listdir(f"/proc/{lab.router.process.pid}/fd"))


def run(lab, results, _options):
    outside(lab)
    traversal(lab, results)
    before = descriptors(lab)
    unknown = scan(lab, "N5", f"{FLOOD} unknown names", lambda n: f"GET / HTTP/1.1\r\nHost: unknown-{n}\r\n\r\n",
                   lambda: max(0, descriptors(lab) - before - 20))
    hosts = scan(lab, "X7", f"{FLOOD} values of Host", lambda n: f"GET / HTTP/1.1\r\nHost: h{n}.example\r\n\r\n")
    for ident, what, check in [unknown, hosts]:
        results.attempt(ident, what, "all", check)
    results.add("N2", "Consul", "", "skipped", "there is no Consul namer yet")
    results.add("N3", "Kubernetes", "", "skipped", "there is no Kubernetes namer yet")
    results.add("N6", "addresses of a remote registry", "", "skipped", "there is no remote registry yet")
