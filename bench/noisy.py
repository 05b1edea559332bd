#!/usr/bin/env python3
"""Noisy neighbours (requirement P11.2): what tenant A's flood does to tenant B's latency in one process.

One router process, a listener and an origin per tenant. B asks at a constant rate, open loop, alone and while A asks at
its share and at many times its share, on a listener with `maxConcurrentRequests` and on one without. Two rows tell what
the machine itself adds: B's load generator straight on B's origin, without and with A's flood through the router.

See README.md. Everything runs on loopback; every process started here is ended here, by pid.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile

from bench import free_port, stop, wait_port

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = """admin: {{ port: {admin} }}
namers:
- kind: io.l5d.fs
  rootDir: {folder}/disco
routers:
- protocol: http
  label: tenant-a
  dtab: /svc => /#/io.l5d.fs/a
  servers:
  - {{ port: {limited}, maxConcurrentRequests: {most} }}
  - {{ port: {unlimited} }}
- protocol: http
  label: tenant-b
  dtab: /svc => /#/io.l5d.fs/b
  servers: [{{ port: {b} }}]
"""


class Site:
    """The router and the two origins."""

    def __init__(self, a):
        self.a = a
        self.folder = tempfile.mkdtemp(prefix="perf-noisy-", dir="/tmp")
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.started = []
        self.cores = dict(zip(("router", "a", "b", "origin"), a.cores.split("/")))
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        os.mkdir(os.path.join(self.folder, "disco"))
        self.ports = {name: free_port() for name in ("admin", "limited", "unlimited", "b", "origin-a", "origin-b")}
        for tenant in "ab":
            port = self.ports[f"origin-{tenant}"]
            with open(os.path.join(self.folder, "disco", tenant), "w") as file:
                file.write(f"127.0.0.1 {port}\n")
            wait_port(port, self.spawn("origin", [self.a.perfkit, "serve", "--port", str(port)]))
        config = os.path.join(self.folder, "router.yaml")
        with open(config, "w") as file:
            file.write(CONFIG.format(folder=self.folder, most=self.a.most, **self.ports))
        router = self.spawn("router", [self.a.switchyard, "--workers", "1", "--log-level", "WARNING", config])
        for name in ("limited", "unlimited", "b"):
            wait_port(self.ports[name], router)

    def spawn(self, core, argv, out=None):
        argv = ["taskset", "-c", self.cores[core]] + argv
        p = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out or self.log,
                             stderr=self.log, text=True)
        self.started.append(p)
        return p

    def load(self, core, port, rate, secs, warm, conns):
        argv = [self.a.perfkit, "rate", "--port", str(self.ports[port]), "--rate", str(rate), "--secs", str(secs),
                "--warm", str(warm), "--conns", str(conns), "--path", "/b/1024"]
        return self.spawn(core, argv, subprocess.PIPE)

    def run(self, b_port, a_port=None, a_times=0):
        """B's result, and A's when it asks as well."""
        a = self.a
        warm = 0.5
        noise = None
        if a_port:
            # A begins with B, and is asked for as long as B is measured.
            noise = self.load("a", a_port, a.rate * a_times, a.secs, warm, a.noisy_conns)
        b = self.load("b", b_port, a.rate, a.secs, warm, a.conns)
        return result(b), result(noise) if noise else None

    def close(self):
        for p in reversed(self.started):
            if p.poll() is None:
                stop(p)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def result(load):
    out, _ = load.communicate()
    found = [line for line in out.splitlines() if line.startswith("{")]
    if not found:
        raise RuntimeError(f"a load generator ended with status {load.returncode}")
    return json.loads(found[-1])


def table(rows, rounds):
    """Medians over the rounds; ratios are taken within a round, to B alone by way of the router."""
    def median(values):
        return statistics.median(list(values))

    print("| B is asked | while A | B p50 us | B p99 us | p50, of alone | p99, of alone | B failed | A 200/s | A 503/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    worst = {}
    for name, way, noise in rows:
        found = [r[name] for r in rounds]
        of = {}
        for p in ("p50_us", "p99_us"):
            of[p] = median(r[name][0]["lat"][p] / r["alone"][0]["lat"][p] for r in rounds)
        worst[name] = of["p99_us"]
        b = [x[0] for x in found]
        failed = sum(x["errors"] + x["non2xx"] for x in b)
        cells = [way, noise, f"{median(x['lat']['p50_us'] for x in b):.0f}", f"{median(x['lat']['p99_us'] for x in b):.0f}",
                 f"{of['p50_us']:.2f}", f"{of['p99_us']:.2f}", str(failed)]
        if found[0][1]:
            cells.append(f"{median((x[1]['done'] - x[1]['non2xx']) / x[1]['secs'] for x in found):.0f}")
            cells.append(f"{median(x[1]['non2xx'] / x[1]['secs'] for x in found):.0f}")
        else:
            cells += ["", ""]
        print("| " + " | ".join(cells) + " |")
    return worst


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--switchyard", default=os.environ.get("SWITCHYARD", os.path.join(HERE, "../target/release/switchyard")))
    ap.add_argument("--perfkit", default=os.path.join(os.environ.get("PERF_WORK", "/tmp/perf-kit"), "perfkit"),
                    help="run.sh builds it")
    ap.add_argument("--rate", type=float, default=200, help="requests per second of B, and A's share")
    ap.add_argument("--times", type=float, default=50, help="how many times its share A asks")
    ap.add_argument("--most", type=int, default=8, help="maxConcurrentRequests of A's listener")
    ap.add_argument("--conns", type=int, default=16, help="connections of B")
    ap.add_argument("--noisy-conns", type=int, default=256, help="connections of A")
    ap.add_argument("--secs", type=float, default=8)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--cores", help="cores of router/load of A/load of B/origins")
    ap.add_argument("--max-p99-ratio", type=float, help="exit 1 when A's flood on the limited listener makes B's p99 "
                    "more than this many times what it is alone (P11.2: 1.2)")
    a = ap.parse_args()
    n = os.cpu_count() or 1
    a.cores = a.cores or ("0/1/2/3" if n > 3 else "0/1/2/1" if n == 3 else "0/1/1/1" if n == 2 else "0/0/0/0")
    many = f"{a.times:g} times its share"
    rows = [
        ("alone", "by the router", "is silent"),
        ("share", "by the router", "asks its share"),
        ("limited", "by the router", f"asks {many}, limited"),
        ("unlimited", "by the router", f"asks {many}, not limited"),
        ("direct", "straight", "is silent"),
        ("direct-noise", "straight", f"asks {many}, limited"),
    ]
    runs = {
        "alone": ("b",),
        "share": ("b", "limited", 1),
        "limited": ("b", "limited", a.times),
        "unlimited": ("b", "unlimited", a.times),
        "direct": ("origin-b",),
        "direct-noise": ("origin-b", "limited", a.times),
    }
    rounds = []
    site = Site(a)
    try:
        for i in range(a.rounds):
            # The order turns round by round, so that nobody always runs right after the same one.
            names = list(runs)[i % len(runs):] + list(runs)[:i % len(runs)]
            rounds.append({name: site.run(*runs[name]) for name in names})
            print(f"round {i + 1} of {a.rounds}", file=sys.stderr, flush=True)
    finally:
        site.close()
    worst = table(rows, rounds)
    if a.max_p99_ratio and worst["limited"] > a.max_p99_ratio:
        print(f"OVER: B's p99 is {worst['limited']:.2f} times what it is alone, {a.max_p99_ratio} is the limit")
        sys.exit(1)


if __name__ == "__main__":
    main()
