"""Runs a section of a document as it is printed, in an empty folder, and checks what that prints.

usage: paste.py DOCUMENT TITLE BLOCKS FOLDER_OF_THE_BINARIES WANTED...

BLOCKS: how many blocks of shell the section has. The run ends with the line that begins with the last WANTED; all of them must
be printed. What the section leaves running is ended. Where another program has a port that it needs, it is left out, with a
notice.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

LIMIT = 600
# Seconds that what was left running has to end by itself: the next section may need its ports.
GRACE = 30
# Ports of admin servers that a section need not name.
UNNAMED = {9990}


def main():
    document, title, count, binaries, *wanted = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        text = file.read()
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if not section:
        sys.exit(f"{document} has no section {title!r}")
    blocks = re.findall(r"^```sh\n(.*?)^```", section.group(1), re.DOTALL | re.MULTILINE)
    if len(blocks) != int(count):
        sys.exit(f"{len(blocks)} blocks where {count} were expected")
    script = "\n".join(blocks)
    if others := taken(script):
        print(f"NOTICE: port {others[0]} is taken: {document}, {title!r}, is not run")
        return
    environment = dict(os.environ, PATH=f"{os.path.abspath(binaries)}:{os.environ['PATH']}", no_proxy="")
    with tempfile.TemporaryDirectory() as folder:
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            # What runs in the background holds the output open: read until the last line that is expected.
            said = read(shell, wanted[-1])
        finally:
            end(shell)
    for text in wanted:
        if text not in said:
            sys.exit(f"{text!r} is not in what the section printed:\n{said}")
    print(f"{document}, {title!r}: works as printed")


def taken(script):
    """The ports of the section that somebody listens on."""
    def is_taken(port):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return True
            return False
    return sorted(filter(is_taken, {int(port) for port in re.findall(r"\b[4-9]\d{3}\b", script)} | UNNAMED))


def end(shell):
    """Ends all that the section began, and waits for it: the output is at its end when nobody holds it open."""
    kill_after(shell, GRACE)
    os.killpg(shell.pid, signal.SIGTERM)
    shell.stdout.read()
    signal.alarm(0)
    shell.wait()


def kill_after(shell, seconds):
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(shell.pid, signal.SIGKILL))
    signal.alarm(seconds)


def read(shell, last):
    kill_after(shell, LIMIT)
    said = ""
    for line in shell.stdout:
        said += line
        if line.startswith(last):
            break
    signal.alarm(0)
    return said


main()
