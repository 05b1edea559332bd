#!/usr/bin/env python3
"""The conformance runner: HTTP/2 and gRPC through the release binary, judged by the tools and libraries of others.

Usage: tests/grpc/run.py BINARY [--quick] [--groups h2spec,interop,own,nghttp2,mixed] [--markdown] [--report FILE]

A config of Linkerd 1 with two h2 routers in series carries h2spec, gRPC clients and servers of Go, Python and Node, our
own cases, nghttp, h2load and curl: through one router and through both, in plain text and with TLS on every hop. Prints
a table, writes a report, and ends with 1 when anything did not hold. What a machine lacks is left out, with a notice.
Programs of others are fetched and built below target/grpc, once.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(ROOT, "tests", "attacks")]

import interop
import load
import mixed
import own
import spec
from certs import Authority
from mesh import Site
from report import Report
from tools import Tools

GROUPS = {"h2spec": spec.run, "interop": interop.run, "own": own.run, "nghttp2": load.run, "mixed": mixed.run}

# Names that clients call the listeners and servers by: the authority of a call of our own is its service.
NAMES = ["mesh.example", "localhost", *own.SERVICES, "nobody"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true", help="fewer calls, and no servers of Node")
    parser.add_argument("--groups", help=f"only these of {','.join(GROUPS)}")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/http2.md has it")
    parser.add_argument("--cache", default=os.path.join(ROOT, "target", "grpc"), help="for the programs of others")
    parser.add_argument("--report", default=os.path.join(ROOT, "target", "grpc.json"))
    return parser.parse_args()


def certificates(folder):
    os.makedirs(folder)
    names = ",".join([f"DNS:{name}" for name in NAMES] + ["IP:127.0.0.1"])
    Authority(folder, "ca").issue("mesh", names)


def run_group(name, site, report, quick):
    """One group; afterwards its routers are alive and have not panicked."""
    started, before = time.monotonic(), len(site.meshes)
    GROUPS[name](site, report, quick)
    for mesh, one in site.meshes[before:]:
        problem = one.problems()
        if problem:
            report.add(name, "the routers are alive", next(iter(one.ways)), "failed", problem, mesh)
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def main():
    options = arguments()
    tools = Tools(options.cache)
    for line in tools.missing:
        print(f"NOTICE: {line}", flush=True)
    folder = tempfile.mkdtemp(prefix="grpc-")
    site, report, started = Site(os.path.abspath(options.binary), folder, tools), Report(), time.monotonic()
    try:
        certificates(site.certs)
        for name in GROUPS:
            if options.groups is None or name in options.groups.split(","):
                run_group(name, site, report, options.quick)
    finally:
        site.stop()
    print(f"\n{report.markdown() if options.markdown else report.text()}")
    report.write(options.report, missing=tools.missing, quick=options.quick, seconds=round(time.monotonic() - started))
    counts = report.counts()
    print(f"\n{time.monotonic() - started:.0f} s: " + ", ".join(f"{count} {name}" for name, count in counts.items()) +
          f"; the report is {os.path.relpath(options.report)}")
    if counts["failed"]:
        print(f"logs and configs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
