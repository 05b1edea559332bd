"""nghttp and h2load through one router and through two: every answer is a 2xx, and large uploads arrive whole."""

import hashlib
import os
import re
import subprocess
import time

PATIENCE = 300


class Wrong(Exception):
    """What a tool printed is not what it must be."""


def tool(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, errors="replace")
    if done.returncode != 0:
        raise Wrong(f"ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return done.stdout


def shown(command, base, data):
    """`nghttp -v` shows the frames: a status of 200, and END_STREAM on the last."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", tool(command))
    statuses = re.findall(r"recv \(stream_id=\d+\) :status: (\d+)", text)
    if statuses != ["200"] * 3 or "END_STREAM" not in text:
        raise Wrong(f"statuses {statuses} of 3 requests: {text[-300:]}")
    return ""


def uploaded(command, base, data):
    """The server answers with the length and the hash of what it got."""
    with open(data, "rb") as file:
        content = file.read()
    wanted, text = f"{len(content)} {hashlib.sha256(content).hexdigest()}", tool(command).strip()
    if text != wanted:
        raise Wrong(f"the server got {text}, not {wanted}")
    return f"{len(content)} bytes"


def loaded(command, base, data):
    text = tool(command)
    asked = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not asked or not codes or len({asked[1], asked[2], asked[3], codes[1]}) != 1 or asked[4] != "0":
        raise Wrong(f"{asked and asked[0]}; {codes and codes[0]}")
    rate = re.search(r"finished in .*", text)
    return rate[0] if rate else ""


def plan(tools, data, quick):
    """Name, check, and the command without its address; `{}` in a path is filled in."""
    count = "2000" if quick else "10000"
    nghttp, h2load = tools.nghttp, tools.h2load
    plans = []
    if nghttp:
        plans += [("nghttp -v, 3 requests", shown, [nghttp, "-v", "-n", "--no-dep", "-m3"], "/page"),
                  ("nghttp, upload of 8 MB", uploaded, [nghttp, "--no-dep", "-d", data], "/sum")]
    if h2load:
        plans += [("h2load, 8 connections of 16 streams", loaded, [h2load, "-n", count, "-c8", "-m16"], "/bytes/1024"),
                  ("h2load, 100 connections", loaded, [h2load, "-n", count, "-c100", "-m1"], "/bytes/100"),
                  ("h2load, window of 1 kB", loaded, [h2load, "-n200", "-c2", "-m10", "-w10", "-W16"], "/bytes/100000"),
                  ("h2load, 500 streams of 1 connection", loaded, [h2load, "-n", count, "-c1", "-m500"], "/bytes/1"),
                  ("h2load, 20 uploads of 8 MB", loaded, [h2load, "-n20", "-c4", "-m2", "-d", data], "/sum")]
    return plans


def run(site, report, quick):
    if site.tools.peer is None or not (site.tools.nghttp or site.tools.h2load):
        report.skip("nghttp2", "all", "no nghttp and h2load, or no go for the server behind")
        return
    data = os.path.join(site.folder, "upload")
    with open(data, "wb") as file:
        file.write(os.urandom(1 << 20) * 8)
    for secure in (False, True):
        mesh = site.mesh("load", secure, site.server("web", secure).port)
        for topology, port in mesh.ways.items():
            for case, check, command, path in plan(site.tools, data, quick):
                base = f"http{'s' if secure else ''}://127.0.0.1:{port}{path}"
                attempt(report, "nghttp2", case, topology, check, [*command, base], base, data)


def attempt(report, group, case, topology, check, command, *more):
    started = time.monotonic()
    try:
        detail, outcome = check(command, *more), "held"
    except (Wrong, OSError, subprocess.TimeoutExpired) as error:
        detail, outcome = str(error), "failed"
    report.add(group, case, topology, outcome, detail, "", round((time.monotonic() - started) * 1000), " ".join(command))
