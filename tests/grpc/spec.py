"""h2spec against the listener of one router, with a server of HTTP/2 behind it. Its report in JUnit's XML is read.

`h2spec-exceptions.txt` lists what may fail, and why; a case of it that holds everywhere is told, so that the list shrinks.
"""

import os
import subprocess
import xml.etree.ElementTree as tree
from concurrent.futures import ThreadPoolExecutor

from mesh import HERE

PATIENCE = 600


def exceptions():
    """{(package, case): reason}."""
    found = {}
    with open(os.path.join(HERE, "h2spec-exceptions.txt"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                package, case, reason = (word.strip() for word in line.split("|", 2))
                found[package, case] = reason
    return found


def cases(path):
    """(package, case, what is wrong or "") of a report."""
    for case in tree.parse(path).getroot().iter("testcase"):
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        text = "" if wrong is None else " ".join((wrong.text or "failed").split())
        # Versions before 2.6 take a connection that ends by RST for one that does not end.
        closed = "Connection closed" in text and text.endswith("connection reset by peer")
        yield case.get("package"), case.get("classname"), "" if closed else text


def one(site, report, topology, port, excused):
    path = os.path.join(site.folder, f"h2spec-{port}.xml")
    command = [site.tools.h2spec, "--strict", "--host", "127.0.0.1", "--port", str(port), "--timeout", "2",
               "--path", "/page", "--junit-report", path, *(["--tls", "--insecure"] if "TLS" in topology else [])]
    try:
        subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        told = list(cases(path))
    except (OSError, subprocess.TimeoutExpired, tree.ParseError) as error:
        report.add("h2spec", "all", topology, "failed", f"no report: {error}", command=" ".join(command))
        return
    for package, case, wrong in told:
        suite, _, section = package.partition("/")
        excuse = excused.get((package, case))
        outcome = "held" if not wrong else "excused" if excuse else "failed"
        detail = f"{excuse}: {wrong}" if wrong and excuse else wrong
        report.add("h2spec", suite, topology, outcome, detail, f"{section} {case}",
                   command=f"{' '.join(command)} {package}")


def run(site, report, _quick):
    if not site.tools.h2spec or site.tools.peer is None:
        report.skip("h2spec", "all", "no h2spec, or no go for the server behind")
        return
    excused = exceptions()
    with ThreadPoolExecutor(2) as pool:
        for secure in (False, True):
            mesh = site.mesh("spec", secure, site.server("web", secure).port)
            topology = f"one, {'TLS' if secure else 'plain'}"
            pool.submit(one, site, report, topology, mesh.ways[topology], excused)
    failed = {row["pair"] for row in report.rows if row["group"] == "h2spec" and row["outcome"] == "excused"}
    for package, case in excused:
        if f"{package.partition('/')[2]} {case}" not in failed:
            print(f"NOTICE: h2spec-exceptions.txt: {package}, {case}: did not fail")
