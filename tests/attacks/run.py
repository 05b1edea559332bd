#!/usr/bin/env python3
"""The attack runner: sends what docs/security.md lists to the release binary, in front of real servers.

Usage: tests/attacks/run.py BINARY [--groups H1,H1-17,H2,X,N,O,T,M] [--case TEXT] [--servers nginx,node] [--long]

Asserts, for what must be rejected, that not one byte reaches a server, and for everything else that the router and the
servers count the same requests. Writes a report, prints a table per id, and ends with 1 when anything did not hold.
Needs Python 3, openssl, and what of nginx, node, go, gunicorn, haproxy the machine has.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import table
from cases import Results
from groups import GROUPS
from lab import GROWTH, Lab, demand
from relay import Relays
from servers import Fleet

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--groups", help="only these, e.g. H1,N")
    parser.add_argument("--case", default="", help="of these only checks with this in their id, name or place")
    parser.add_argument("--servers", help="only these, e.g. nginx,node,python")
    parser.add_argument("--long", action="store_true", help="many more permutations: ten minutes and more instead of half a one")
    parser.add_argument("--permutations", type=int, help="so many; default 12000, with --long 200000")
    parser.add_argument("--seed", type=int, default=1, help="of the permutations")
    parser.add_argument("--report", default=os.path.join(ROOT, "target", "attacks.json"))
    return parser.parse_args()


def run_group(name, work, lab, results, options):
    """One group; afterwards the process is alive, unharmed and not much larger."""
    started, before = time.monotonic(), lab.router.rss()
    work(lab, results, options)

    def after():
        lab.router.unharmed()
        now = lab.router.rss()
        demand(now < before + GROWTH, f"memory went from {before} to {now} KiB")
        for server in lab.names():
            lab.good(server)

    results.attempt(name, "alive, unharmed, and as small as before", "all", after)
    print(f"{name}: {time.monotonic() - started:.1f} s, {before} to {lab.router.rss()} KiB", flush=True)


def show(results):
    print(f"\n{'id':<7}{'held':>6}{'failed':>8}{'skipped':>9}")
    for ident, counts in results.summary().items():
        print(f"{ident:<7}{counts['held']:>6}{counts['failed']:>8}{counts['skipped']:>9}")


def main():
    options = arguments()
    problems = table.problems(ROOT)
    for problem in problems:
        print(f"docs/security.md: {problem}")
    fleet = Fleet(tempfile.mkdtemp(prefix="attacks-"), options.servers and options.servers.split(","))
    fleet.start()
    results, lab = Results(options.case), None
    try:
        print(f"servers: {', '.join(server.name for server in fleet.servers)}")
        for name in fleet.missing:
            print(f"NOTICE: no {name} on this machine: it takes no part")
        if {"nginx", "node"} & set(fleet.missing):
            print("NOTICE: without nginx and node this proves less than docs/security.md says")
        lab = Lab(os.path.abspath(options.binary), fleet.folder, fleet, Relays())
        for name, work in GROUPS.items():
            if options.groups is None or name in options.groups.split(","):
                run_group(name, work, lab, results, options)
    finally:
        if lab is not None:
            lab.router.stop()
        fleet.stop()
    show(results)
    os.makedirs(os.path.dirname(options.report), exist_ok=True)
    with open(options.report, "w", encoding="utf-8") as file:
        report = {"servers": [server.name for server in fleet.servers], "missing": fleet.missing,
                  "summary": results.summary(), "checks": results.rows}
        json.dump(report, file, indent=1)
    if options.groups is None and not options.case:
        problems += [print(f"docs/security.md: {gap}") or gap for gap in table.unproven(ROOT, results.summary())]
    failed = results.failed()
    print(f"\n{len(results.rows)} checks, {len(failed)} failed; the report is {os.path.relpath(options.report)}")
    if failed or problems:
        print(f"logs and configs are in {fleet.folder}")
        return 1
    shutil.rmtree(fleet.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
