#!/usr/bin/env python3
"""Group M, M5: a router that nobody tells to speak to other hosts sends them nothing.

The router runs in a network namespace of its own, in which an interface with the default routes of IPv4 and IPv6 is
recorded; requests come by loopback. Needs root, unshare and ip; without these, the case is skipped and says so.
Usage inside of the namespace: quiet.py BINARY FOLDER SECONDS, which prints what it saw as JSON. Not for: what a router sends
where its config leads.
"""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lab import HERE, Router, demand
from wire import Conn, eventually

SECONDS, SECONDS_LONG = 20, 300
ALL_PACKETS = 3
# Addresses that are set aside for documents; nobody has them.
GATEWAY, OUTSIDE, NAMED = "192.0.2.1", "198.51.100.9", "198.51.100.7"
GATEWAY_6, OUTSIDE_6 = "2001:db8:1::1", "2001:db8:2::9"
MAC = "02:00:00:00:00:01"
SETUP = [
    "link set lo up",
    f"link add out0 type veth peer name wire0 address {MAC}",
    "link set wire0 multicast off up",
    "link set out0 multicast off up",
    "addr add 192.0.2.2/24 dev out0",
    "addr add 2001:db8:1::2/64 dev out0 nodad",
    f"neigh add {GATEWAY} lladdr {MAC} nud permanent dev out0",
    f"neigh add {GATEWAY_6} lladdr {MAC} nud permanent dev out0",
    f"route add default via {GATEWAY}",
    f"-6 route add default via {GATEWAY_6}",
]


class Recorder:
    """Everything that crosses the interface, from now on."""

    def __init__(self, interface):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PACKETS))
        self.sock.bind((interface, 0))
        self.sock.setblocking(False)

    def packets(self):
        """Those since the last call."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536))
            except BlockingIOError:
                return found

    def sees(self, what, mark, send):
        """Whether a packet with these bytes comes by after `send`. The kernel's own are none of ours."""
        self.packets()
        send()
        return bool(eventually(what, lambda: any(mark in packet for packet in self.packets()), 10))


class Web(http.server.BaseHTTPRequestHandler):
    """The one service that there is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def say(address, mark):
    """A packet on purpose, from this program."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(mark, (address, 53))


def silence(recorder):
    """Waits until the kernel has said all that it says of a new interface."""
    until, last = time.monotonic() + 15, time.monotonic()
    while time.monotonic() - last < 2:
        if recorder.packets():
            last = time.monotonic()
        if last > until:
            raise TimeoutError("the interface is never silent, before any router has started")
        time.sleep(0.05)


def status(router, host):
    with Conn(router.ports["plain"]) as conn:
        conn.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return conn.response().status


def busy(router, seconds):
    """Requests for that long: how many of each kind, and how many of them went wrong."""
    counts, wrong, end = {"known": 0, "unknown": 0, "pages": 0}, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        number = counts["known"]
        wrong += status(router, "web") != 200
        wrong += status(router, [f"nobody-{number}", f"nobody-{number}.example.com", "www.example.com"][number % 3]) == 200
        page = ["/admin/metrics.json", "/admin/metrics/prometheus", "/", "/config.json"][number % 4]
        wrong += router.page(page)[0] != 200
        counts = {kind: count + 1 for kind, count in counts.items()}
        time.sleep(0.05)
    return {**counts, "wrong": wrong}


def quiet_kernel():
    """The kernel itself looks for no router and makes no addresses for new interfaces."""
    for key, value in [("accept_ra", 0), ("router_solicitations", 0), ("addr_gen_mode", 1), ("dad_transmits", 0)]:
        with open(f"/proc/sys/net/ipv6/conf/default/{key}", "w", encoding="utf-8") as file:
            file.write(str(value))


def inside(binary, folder, seconds):
    """All of it, inside of the namespace."""
    quiet_kernel()
    for words in SETUP:
        subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True, timeout=10)
    recorder = Recorder("out0")
    found = {"control": [recorder.sees(f"a packet to {address}", b"control", lambda address=address: say(address, b"control"))
                         for address in [OUTSIDE, OUTSIDE_6]]}
    silence(recorder)
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with open(os.path.join(HERE, "quiet.yaml"), encoding="utf-8") as file:
        router = Router(binary, folder, "quiet", file.read(), ["admin", "plain"])
    try:
        router.set("web", [web.server_port])
        eventually("web is served", lambda: status(router, "web") == 200)
        found["requests"] = busy(router, seconds)
        packets = recorder.packets()
        found["packets"], found["first"] = len(packets), [packet[:120].hex() for packet in packets[:3]]
        found["router"] = led_outside(router, recorder)
        found["unharmed"] = router.process.poll() is None and "panicked" not in router.logged()
    finally:
        router.stop()
    return found


def led_outside(router, recorder):
    """Whether a packet of the router is seen as soon as a file leads it to another host."""
    with open(os.path.join(router.disco, "outside.new"), "w", encoding="utf-8") as file:
        file.write(f"{NAMED} 80\n")
    os.rename(os.path.join(router.disco, "outside.new"), os.path.join(router.disco, "outside"))
    recorder.packets()
    for _ in range(40):
        with Conn(router.ports["plain"]) as conn:
            conn.send(b"GET /x HTTP/1.1\r\nHost: outside\r\n\r\n")
            time.sleep(0.25)
            if any(socket.inet_aton(NAMED) in packet for packet in recorder.packets()):
                return True
    return False


def missing():
    """What this machine lacks for it."""
    if os.geteuid() != 0:
        return "it needs root"
    lacks = [program for program in ["unshare", "ip"] if shutil.which(program) is None]
    if lacks:
        return f"there is no {lacks[0]}"
    tried = subprocess.run(["unshare", "-n", "sh", "-ec", "ip link add out0 type veth peer name wire0; ip link set lo up"],
                           capture_output=True, text=True, check=False, timeout=20)
    return "" if tried.returncode == 0 else f"no network namespace with an interface: {tried.stderr.strip()}"


def run(lab, results, options):
    seconds = SECONDS_LONG if options.long else SECONDS
    name, reason = "nothing leaves the host", missing()
    if reason:
        print(f"NOTICE: M5 is not run: {reason}")
        results.add("M5", name, "a namespace", "skipped", reason)
        return

    def work():
        command = ["unshare", "-n", sys.executable, os.path.abspath(__file__), lab.binary, lab.folder, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 90)
        demand(done.returncode == 0, f"it did not run: {done.stdout}{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"M5: {found['requests']}, {found['packets']} packets on the interface in {seconds} s")
        demand(found["control"] == [True, True], f"a packet on purpose was not seen: {found}")
        demand(found["requests"]["known"] > seconds and found["requests"]["wrong"] == 0, f"requests: {found['requests']}")
        demand(found["packets"] == 0, f"{found['packets']} packets left, the first: {found['first']}")
        demand(found["router"], f"a packet of the router was not seen when a file led it outside: {found}")
        demand(found["unharmed"], "the router did not end well")

    results.attempt("M5", name, "a namespace", work)


if __name__ == "__main__":
    print(json.dumps(inside(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
