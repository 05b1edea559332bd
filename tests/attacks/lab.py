"""The lab: the release binary in front of recorded servers, and the checks that every group of cases shares.

`refused` asserts rule R, `passed` that what comes through comes through once. Not for: which inputs are sent.
"""

import http.client
import json
import os
import subprocess
import sys
import time

from servers import answers, free_port
from wire import Broken, Conn, eventually, parse_requests

# A group may leave the process this much larger, in KiB: allocators keep pages.
GROWTH = 32 * 1024

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS = ["admin", "plain", "retrying", "path", "name", "small", "edge", "policy", "nobody", "named", "strict"]


class Wrong(AssertionError):
    """A case did not have the outcome that it must have."""


class Excepted(Exception):
    """A case had another outcome than it should, which is on the list of exceptions with this reason."""


def demand(good, what):
    if not good:
        raise Wrong(what)


class Router:
    """One process of the binary. `ports` are by the names that the config uses, `values` what else stands in it."""

    def __init__(self, binary, folder, name, config, ports, level="DEBUG", **values):
        self.folder, self.name = os.path.join(folder, name), name
        os.makedirs(os.path.join(self.folder, "disco"), exist_ok=True)
        self.ports = {port: free_port() for port in ports}
        self.disco = os.path.join(self.folder, "disco")
        self.log = os.path.join(self.folder, "router.log")
        path = os.path.join(self.folder, "linkerd.yaml")
        with open(path, "w", encoding="utf-8") as file:
            for word, value in {"disco": self.disco, "folder": self.folder, **self.ports, **values}.items():
                config = config.replace(f"@{word}@", str(value))
            file.write(config)
        with open(self.log, "w", encoding="utf-8") as log:
            # Memory, and what each worker has for itself, must not depend on the machine.
            command = [binary, path, "--log-level", level, "--workers", "2"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually("the router is ready", self.ready, 60)
        except TimeoutError:
            sys.exit(f"the router does not start:\n{self.logged()}")

    def ready(self):
        if self.process.poll() is not None:
            sys.exit(f"the router ended with {self.process.returncode}:\n{self.logged()}")
        return answers(self.ports["admin"]) and self.page("/admin/ready")[0] == 200

    def page(self, path, method="GET", headers=None):
        """Status and text of an admin page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=60)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        return json.loads(self.page("/admin/metrics.json")[1])

    def counters(self, name):
        """A counter that only the page for Prometheus has: {labels: value}."""
        found = {}
        for line in self.page("/admin/metrics/prometheus")[1].splitlines():
            if line.startswith((name + "{", name + " ")):
                labels, value = line[len(name):].rsplit(" ", 1)
                found[labels] = found.get(labels, 0) + float(value)
        return found

    def rejected(self, reason=""):
        found = self.counters("rejected_total")
        return sum(value for labels, value in found.items() if not reason or f'reason="{reason}"' in labels)

    def refusals(self):
        """`rejected_total` by reason, without the slow heads that end meanwhile."""
        found = self.counters("rejected_total")
        found.pop('{reason="truncated"}', None)
        return found

    def forwarded(self, client):
        """Requests that the router sent to this client, `<router>/client/<id>`; attempts are counted one by one."""
        return self.metrics().get(f"rt/{client}/requests", 0)

    def set(self, service, ports):
        path = os.path.join(self.disco, service)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.writelines(f"127.0.0.1 {port}\n" for port in ports)
        os.rename(path + ".new", path)

    def rss(self):
        """Resident memory in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def reset_peak(self):
        """From now on `peak` is of what comes."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def peak(self):
        """The most memory that was resident, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

    def cpu(self):
        """Seconds of CPU that the process has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            words = file.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def logged(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def unharmed(self):
        demand(self.process.poll() is None, f"the process ended with {self.process.returncode}: {self.logged()[-2000:]}")
        demand("panicked" not in self.logged(), f"a panic is in the log: {self.logged()[-2000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lab:
    """A router, the servers, and a recording relay before each."""

    def __init__(self, binary, folder, fleet, relays):
        self.binary, self.folder, self.relays_of = binary, folder, relays
        with open(os.path.join(HERE, "lab.yaml"), encoding="utf-8") as file:
            self.router = Router(binary, folder, "lab", file.read(), PORTS)
        self.servers = {server.name: server for server in fleet.servers}
        self.relays = {name: relays.start(server.port) for name, server in self.servers.items()}
        self.number = 0
        for name, relay in self.relays.items():
            self.router.set(name, [relay.port])
            self.router.set(self.alias(name), [relay.port])
        for name in self.servers:
            eventually(f"{name} is served", lambda name=name: self.try_get(name).status == 200)

    def alias(self, name):
        """Another name of a service, as long as `%HOST%`."""
        return f"web-{list(self.servers).index(name):02}"

    def names(self):
        return list(self.servers)

    def try_get(self, name, listener="plain"):
        with Conn(self.router.ports[listener]) as conn:
            conn.send(f"GET /up HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            return conn.response()

    def clear(self, name):
        """Forgets what the server and its relay have seen. Some write their log a moment after their answer."""
        sent = [parse_requests(stream) for stream in self.relays[name].sent()]
        count = sum(len(requests) + bool(rest) for requests, rest in sent)
        eventually_true(lambda: len(self.servers[name].lines()) >= count, 1.0)
        self.servers[name].clear()
        self.relays[name].clear()

    def good(self, name, listener="plain"):
        """A good request is still served; returns its target."""
        self.number += 1
        target = f"/good-{self.number}"
        path = target if listener != "path" else f"/{name}{target}"
        with Conn(self.router.ports[listener]) as conn:
            conn.send(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            response = conn.response()
        demand(response.status == 200, f"a good request afterwards: {response}")
        demand(response.header("x-seen") == path, f"a good request got the answer of another: {response}")
        return path

    def upstream(self, name, wanted, loose=False):
        """Exactly these targets went to the server, whole, and nothing else; the server has seen the same."""
        server, relay = self.servers[name], self.relays[name]
        eventually_equal(server.targets, wanted, loose)
        found, partial = [], []
        for stream in relay.sent():
            requests, rest = parse_requests(stream)
            found += [target for _, target, _, _ in requests]
            if rest:
                partial.append(rest)
        if loose and partial:
            # What is broken off is logged late by some; it must not be taken for the next case's.
            eventually("the broken request is in the log", lambda: len(server.lines()) >= len(wanted) + len(partial))
        demand(sorted(found) == sorted(wanted), f"the router sent {found}, not {wanted}")
        demand(not partial or loose, f"bytes reached the upstream: {partial[0][:300] if partial else ''!r}")
        bad = [line for line in server.lines() if line.startswith("BAD") or line.endswith(" 400")]
        demand(not bad or loose, f"the server did not understand us: {bad}")
        if loose:
            after = [rest for rest in partial if b"HTTP/1.1\r\n" in rest.split(b"\r\n\r\n", 1)[-1]]
            demand(not after, f"a request follows a broken one: {after}")

    def refused(self, name, case, form="whole", listener="plain"):
        """Rule R for one case: the status, the close, no byte upstream, the counter, a good request afterwards."""
        data, first, second = case.bytes(name), self.extra(name, "first"), self.extra(name, "second")
        before = self.router.refusals()
        self.clear(name)
        wanted, partial = [], case.late and form == "split"
        with Conn(self.router.ports[listener]) as conn:
            if form == "after":
                data, wanted = first + data, [f"/first-{self.number}"]
            if form == "before":
                data += second
            conn.send(data, piece=1 if form == "split" else 0)
            if form == "after":
                demand(conn.response().status == 200, "the good request before it")
            status = self.refusal(conn, case, partial)
            if case.closes:
                demand(conn.closed() or partial, f"the connection is still open: {conn.buffer[:200]!r}")
            elif form == "before":
                demand(conn.response().status == 200, "the good request behind it")
                wanted = [f"/second-{self.number}"]
        if not (partial and status in (None, 200)):
            after = self.router.refusals()
            more = {labels: after[labels] - before.get(labels, 0) for labels in after}
            more = {labels: count for labels, count in more.items() if count}
            wanted_more = {f'{{reason="{case.reason}"}}': 1} if case.reason else more
            demand(more == wanted_more and sum(more.values()) == 1, f"rejected_total grew by {more}")
        wanted.append(self.good(name, listener))
        self.upstream(name, wanted, loose=partial)

    def refusal(self, conn, case, partial):
        """The status of a refusal. Of a body that breaks while it is under way, only a wrong success is a fault."""
        try:
            response = conn.response()
        except Broken as error:
            demand(partial or case.silent, f"closed without an answer: {error}")
            return None
        if not (partial and response.status == 200):
            demand(response.status in case.statuses, f"answered {response}")
        return response.status

    def ask(self, host, fields=(), target="/x", method="GET", body=b"", listener="plain"):
        """One request on a connection of its own; `fields` are lines without their end."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        with Conn(self.router.ports[listener]) as conn:
            conn.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return conn.response(method)

    def fields(self, name, fields=(), listener="plain", **more):
        """What the server gets of a request with these fields: [(name, value)]."""
        self.clear(name)
        response = self.ask(self.alias(name), fields, listener=listener, **more)
        demand(response.status == 200, f"answered {response}")
        requests = [one for stream in self.relays[name].sent() for one in parse_requests(stream)[0]]
        demand(len(requests) == 1, f"the server got {requests}")
        return requests[0][2]

    def silent(self, what, statuses, work):
        """Not one byte reaches any server while `work` gets an answer of one of these statuses."""
        for name in self.names():
            self.clear(name)
        response = work()
        demand(response.status in statuses, f"{what}: answered {response}")
        # What was sent before this good request has arrived when it has.
        wanted = self.good(self.names()[0])
        self.upstream(self.names()[0], [wanted])
        for name in self.names()[1:]:
            self.upstream(name, [])
        return response

    def extra(self, name, word):
        self.number += 1 if word == "first" else 0
        return f"GET /{word}-{self.number} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()

    def passed(self, name, case, form="whole", listener="plain"):
        """What comes through is what was sent, once, and the connection goes on."""
        data = case.bytes(name)
        self.clear(name)
        with Conn(self.router.ports[listener]) as conn:
            conn.send(data, piece=1 if form == "split" else 0)
            found = [conn.response(method) for method in case.methods]
            demand([response.status for response in found] == case.statuses, f"answered {found}")
            seen = [response.header("x-seen") for response in found if response.header("x-seen")]
            demand(seen == case.targets, f"the answers are those of {seen}, not of {case.targets}")
            if case.closes:
                demand(case.closes == "maybe" or conn.closed(), "the connection is still open")
            else:
                conn.send(f"GET /next HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                demand(conn.response().header("x-seen") == "/next", "the next request on the connection")
        more = [] if case.closes else ["/next"]
        self.upstream(name, [*case.targets, *more, self.good(name, listener)])


def eventually_true(check, within=20.0):
    """Whether `check` becomes true in time."""
    try:
        return bool(eventually("it holds", check, within))
    except TimeoutError:
        return False


def eventually_equal(targets, wanted, loose):
    """The server's log names these targets; a broken request may be there as well when `loose`."""
    until = time.monotonic() + 20
    while True:
        found = targets()
        missing = [target for target in wanted if target not in found]
        extra = list(found)
        for target in wanted:
            if target in extra:
                extra.remove(target)
        if not missing and (not extra or loose and len(extra) == 1):
            return
        # What is too much does not go away.
        demand(not extra or loose, f"the server saw {found}, not {wanted}")
        demand(time.monotonic() < until, f"the server saw {found}, not {wanted}")
        time.sleep(0.01)
