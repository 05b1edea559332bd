#!/usr/bin/env python3
"""Convergence: from the answer to a PUT until every one of many routers routes by it; and many watchers on one namerd.

One namerd on a durable store; one process with --routers routers, each with an interpreter of its own (their settings differ,
so that they share no connection); as many origins as there are versions. Each round stores the dtab that names another origin,
and then asks every router over a kept connection until it answers by it. Afterwards --watchers streams are opened on the HTTP
interface, and edits go to all of them.

See README.md. Everything runs on loopback; every process started here is ended here, by pid.
"""
import argparse, asyncio, http.client, json, os, random, resource, socket, statistics, subprocess, tempfile, time

from bench import stop, wait_port

PORT = {"io.l5d.mesh": "mesh", "io.l5d.namerd": "thrift", "io.l5d.namerd.http": "http"}


def free_ports(count):
    """Ports below those that the system gives to connections."""
    found = []
    for port in random.sample(range(20_000, 32_000), count * 3):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("not enough free ports")


async def origin(text):
    """A server that answers every request with this text."""

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


class Site:
    """namerd, the routers, and a folder for both."""

    def __init__(self, a):
        self.a, self.started = a, []
        self.folder = tempfile.mkdtemp(prefix="perf-converge-", dir="/tmp")
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.ports = dict(zip(("http", "mesh", "thrift", "admin"), free_ports(4)))

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run(self, *command):
        process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        self.started.append(process)
        return process

    def namerd(self):
        p = self.ports
        config = self.write("namerd.yaml", f"""admin: {{ port: {p['admin']} }}
storage: {{ kind: io.switchyard.local, path: {self.folder}/data }}
interfaces:
- {{ kind: io.l5d.httpController, port: {p['http']} }}
- {{ kind: io.l5d.mesh, port: {p['mesh']} }}
- {{ kind: io.l5d.thriftNameInterpreter, port: {p['thrift']} }}
""")
        process = self.run(os.path.join(self.a.bin, "namerd"), config)
        wait_port(p["http"], process)
        return process

    def routers(self, kind):
        """Each has its own back-off, which nothing here ever waits for: so none shares an interpreter with another."""
        ports = free_ports(self.a.routers)
        routers = "".join(f"""- protocol: http
  label: r{i}
  servers: [{{ port: {port} }}]
  interpreter: {{ kind: {kind}, dst: /$/inet/127.0.0.1/{self.ports[PORT[kind]]}, retry: {{ baseSeconds: 1, maxSeconds: {100 + i} }} }}
""" for i, port in enumerate(ports))
        config = self.write(f"{kind}.yaml", f"admin: {{ port: 0 }}\nrouters:\n{routers}")
        process = self.run(os.path.join(self.a.bin, "switchyard"), config, "--workers", "1")
        for port in ports:
            wait_port(port, process)
        return process, ports

    def put(self, dtab):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"])
        connection.request("PUT", "/api/1/dtabs/default", dtab, {"Content-Type": "application/dtab"})
        status = connection.getresponse().status
        connection.close()
        if status != 204:
            raise SystemExit(f"the PUT was answered by {status}")

    def end(self):
        for process in self.started:
            stop(process)


class Router:
    """A kept connection to one router."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self):
        self.writer.write(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return await self.reader.readexactly(length)

    async def until(self, text, limit=10.0):
        """Asks until it answers by `text`; when that was."""
        end = time.monotonic() + limit
        while await self.ask() != text:
            if time.monotonic() > end:
                raise SystemExit(f"a router does not follow within {limit} s")
            await asyncio.sleep(0.001)
        return time.monotonic()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


async def converge(site, kind):
    """Times in ms from the answer to a PUT until each router, and the last router, has followed."""
    texts = [b"one", b"two"]
    origins = [await origin(text) for text in texts]
    put = lambda n: asyncio.to_thread(site.put, f"/svc => /$/inet/127.0.0.1/{origins[n % 2][1]}")
    await put(0)
    process, ports = site.routers(kind)
    routers = [Router(*await asyncio.open_connection("127.0.0.1", port)) for port in ports]
    await asyncio.gather(*(router.until(texts[0]) for router in routers))
    each, last = [], []
    for n in range(1, site.a.rounds + 1):
        # Asked all the time, so that the moment of the change is seen.
        asking = [asyncio.create_task(router.until(texts[n % 2])) for router in routers]
        await asyncio.sleep(0.005)
        await put(n)
        stored = time.monotonic()
        times = [max(0.0, at - stored) * 1000 for at in await asyncio.gather(*asking)]
        each += times
        last.append(max(times))
    for router in routers:
        router.writer.close()
    for server, _ in origins:
        server.close()
    stop(process)
    return each, last


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


async def watchers(site, process):
    """What so many streams cost namerd, idle and with edits."""
    port, count = site.ports["http"], site.a.watchers
    before = rss_mib(process.pid)
    streams = []
    for n in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/1/bind/default?watch=true&path=/svc/name-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n)
        streams.append((reader, writer))
    for reader, _ in streams:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"\n")
    memory, idle = rss_mib(process.pid), cpu_seconds(process.pid)
    await asyncio.sleep(site.a.idle)
    idle = (cpu_seconds(process.pid) - idle) / site.a.idle * 100
    busy, last = cpu_seconds(process.pid), []
    edits = 20
    for edit in range(edits):
        marker = b"/$/inet/127.0.0.1/%d" % (1000 + edit)
        await asyncio.to_thread(site.put, "/svc => " + marker.decode())
        stored = time.monotonic()

        async def told(reader):
            while marker not in await reader.readuntil(b"\n"):
                pass
            return time.monotonic()

        last.append((max(await asyncio.gather(*(told(reader) for reader, _ in streams))) - stored) * 1000)
    busy = (cpu_seconds(process.pid) - busy) / edits * 1000
    for _, writer in streams:
        writer.close()
    return before, memory, idle, busy, last


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../target/release"))
    p.add_argument("--routers", type=int, default=50)
    p.add_argument("--rounds", type=int, default=100)
    p.add_argument("--watchers", type=int, default=500)
    p.add_argument("--idle", type=float, default=10.0, help="seconds over which idle watchers are measured")
    p.add_argument("--kinds", default=",".join(PORT))
    p.add_argument("--json")
    a = p.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    site, result = Site(a), {}
    try:
        process = site.namerd()
        print(f"{a.routers} routers, {a.rounds} edits; ms from the answer to the PUT")
        print("| interpreter | a router: p50 | p99 | max | the last router: p50 | p99 |\n|---|---|---|---|---|---|")
        for kind in a.kinds.split(","):
            each, last = asyncio.run(converge(site, kind))
            row = [statistics.median(each), percentile(each, 0.99), max(each), statistics.median(last), percentile(last, 0.99)]
            result[kind] = row
            print(f"| {kind} | " + " | ".join(f"{value:.1f}" for value in row) + " |", flush=True)
        before, memory, idle, busy, last = asyncio.run(watchers(site, process))
        result["watchers"] = [before, memory, idle, busy, statistics.median(last), max(last)]
        print(f"\n{a.watchers} watchers: memory {before:.1f} -> {memory:.1f} MiB, CPU idle {idle:.2f} % of a core, "
              f"{busy:.1f} ms of CPU for an edit that changes all of them, the last one told after "
              f"{statistics.median(last):.1f} ms (median), {max(last):.1f} ms (largest)")
    finally:
        site.end()
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
