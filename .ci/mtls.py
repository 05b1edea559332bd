"""Runs the section "Two hosts with mutual TLS" of the README as it is printed, in an empty folder, and checks what curl
says: the service's answer through both routers, and a refusal without a certificate.

usage: mtls.py README FOLDER_OF_THE_BINARY
"""

import os
import re
import signal
import subprocess
import sys
import tempfile


def main():
    readme, binaries = sys.argv[1], os.path.abspath(sys.argv[2])
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    section = re.search(r"^## Two hosts with mutual TLS\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    if not section:
        sys.exit(f"{readme} has no such section")
    blocks = re.findall(r"^```sh\n(.*?)^```", section.group(1), re.DOTALL | re.MULTILINE)
    if len(blocks) != 4:
        sys.exit(f"{len(blocks)} blocks where 4 were expected")
    environment = dict(os.environ, PATH=f"{binaries}:{os.environ['PATH']}", no_proxy="")
    with tempfile.TemporaryDirectory() as folder:
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], cwd=folder, env=environment,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            # What runs in the background holds the output open: read until the last line that is expected.
            said = read(shell)
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
    for wanted in ("hello from host B", "refused, as it should be"):
        if wanted not in said:
            sys.exit(f"{wanted!r} is not in what the section printed:\n{said}")
    print("the section works as printed")


def read(shell):
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(shell.pid, signal.SIGKILL))
    signal.alarm(60)
    said = ""
    for line in shell.stdout:
        said += line
        if line.startswith("refused"):
            break
    signal.alarm(0)
    return said


main()
