"""Runs a section of a document as it is printed, in an empty folder, and checks what that prints.

usage: paste.py DOCUMENT TITLE BLOCKS FOLDER_OF_THE_BINARIES WANTED...

BLOCKS: how many blocks of shell the section has. The run ends with the line that begins with the last WANTED; all of them must
be printed. What the section leaves running is ended.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile

LIMIT = 120


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
    environment = dict(os.environ, PATH=f"{os.path.abspath(binaries)}:{os.environ['PATH']}", no_proxy="")
    with tempfile.TemporaryDirectory() as folder:
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], cwd=folder, env=environment,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            # What runs in the background holds the output open: read until the last line that is expected.
            said = read(shell, wanted[-1])
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
    for text in wanted:
        if text not in said:
            sys.exit(f"{text!r} is not in what the section printed:\n{said}")
    print(f"{document}, {title!r}: works as printed")


def read(shell, last):
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(shell.pid, signal.SIGKILL))
    signal.alarm(LIMIT)
    said = ""
    for line in shell.stdout:
        said += line
        if line.startswith(last):
            break
    signal.alarm(0)
    return said


main()
