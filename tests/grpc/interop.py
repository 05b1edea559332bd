"""gRPC interop cases: the clients of Go, Python and Node, each towards the servers of Go, Python and Node."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from mesh import HERE

LANGUAGES = ["go", "python", "node"]

# Those of the interop suite that need no account of a cloud. The soaks, which only Go's client has, are short.
GO_CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
            "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
            "status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service",
            "custom_metadata", "rpc_soak", "channel_soak"]

PATIENCE = 200
AT_ONCE = 3


def go_client(site, report, secure, port, topology, server):
    """One process for each case."""
    flags = ["-use_tls", "-use_test_ca", "-ca_file", *site.authority(True), "-server_host_override", "mesh.example"]
    soak = ["-soak_iterations", "20", "-soak_per_iteration_max_acceptable_latency_ms", "2000"]
    for case in GO_CASES:
        command = [site.tools.interop_client, "-server_host", "127.0.0.1", "-server_port", str(port), "-test_case", case,
                   *(flags if secure else []), *(soak if case.endswith("soak") else [])]
        started = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            problem = "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-500:] or str(done.returncode)
        except subprocess.TimeoutExpired:
            problem = f"not done after {PATIENCE} s"
        report.add("interop", case, topology, "failed" if problem else "held", problem, f"go to {server}",
                   round((time.monotonic() - started) * 1000), " ".join(command))


def told_client(report, group, pair, topology, command, cases=(), limit=PATIENCE, **environment):
    """A client that prints a line of JSON for each case; `cases` are those that it must tell of."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **environment}) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            errors += f"not done after {limit} s"
    told = set()
    for line in output.splitlines():
        row = json.loads(line)
        told.add(row["case"])
        report.add(group, row["case"], topology, "held" if row["held"] else "failed", row["detail"], pair, row["ms"],
                   " ".join(command))
    for case in [case for case in cases or ["the client"] if case not in told and (cases or not told)]:
        report.add(group, case, topology, "failed", f"not told: {errors.strip()[-400:]}", pair, 0, " ".join(command))


def calls(site, report, client, server, secure, topology, port):
    if client == "go":
        return go_client(site, report, secure, port, topology, server)
    cases = [case for case in GO_CASES if not case.endswith("soak")]
    given = ["check", f"127.0.0.1:{port}", *site.authority(secure)]
    if client == "python":
        command, more = [site.tools.python, os.path.join(HERE, "peers", "python", "peer.py"), *given], {}
    else:
        command = [site.tools.node[0], os.path.join(HERE, "peers", "node", "peer.js"), *given]
        more = {"NODE_PATH": site.tools.node[1]}
    return told_client(report, "interop", f"{client} to {server}", topology, command, cases, **more)


def run(site, report, quick):
    tools = site.tools
    clients = [name for name, tool in zip(LANGUAGES, [tools.interop_client, tools.python, tools.node]) if tool]
    if not clients:
        report.skip("interop", "all cases", "no client on this machine")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = []
        for server in LANGUAGES[:2] if quick else LANGUAGES:
            for secure in (False, True):
                started = site.server(server, secure)
                if started is None:
                    continue
                mesh = site.mesh(server, secure, started.port)
                for topology, port in mesh.ways.items():
                    jobs += [pool.submit(calls, site, report, client, server, secure, topology, port) for client in clients]
        for job in jobs:
            job.result()
    report.skip("interop", "client_compressed, server_compressed", "Go, Python and Node have none; see own: gzip both ways")
    report.skip("interop", "credentials of a cloud, ORCA", "need an account, or are about the client's own balancing")
