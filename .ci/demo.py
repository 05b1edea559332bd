"""Starts `switchyard demo`, runs the commands that it prints, and compares what they answer.

Usage: demo.py BINARY. Ends the demo by its process id.
"""

import random
import re
import shutil
import subprocess
import sys
import time

PATIENCE = 60.0


def start(binary):
    """The running demo and what it printed; tries a few port offsets."""
    for _ in range(20):
        offset = random.randrange(10_000, 50_000)
        demo = subprocess.Popen([binary, "demo", "--port-offset", str(offset)], stdout=subprocess.PIPE, text=True)
        lines = []
        for line in demo.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                return demo, lines, offset
        demo.wait()
    sys.exit("the demo does not start")


def steps(lines):
    """Step number to its commands; continued lines are joined, links are left out."""
    found, step = {}, None
    for line in lines:
        title = re.match(r" {1,2}(\d+)\. ", line)
        if title:
            step = found.setdefault(int(title.group(1)), [])
        elif step is not None and line.startswith("       ") and line.strip():
            text = line.strip()
            if step and step[-1].endswith("\\"):
                step[-1] = step[-1][:-1] + text
            elif not text.startswith("http://"):
                step.append(text)
    return found


def run(command):
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def expect(command, good, what):
    """Runs a command until its answer is good; discovery may need a moment."""
    print(f"$ {command}")
    until = time.monotonic() + PATIENCE
    while True:
        answer = run(command)
        if good(answer):
            print(answer if len(answer) < 400 else f"{answer[:400]}...", end="" if answer.endswith("\n") else "\n")
            return
        if time.monotonic() > until:
            sys.exit(f"{answer}\nwrong: expected {what}")
        time.sleep(0.2)


def every(pattern, count):
    def good(answer):
        lines = answer.splitlines()
        return len(lines) == count and all(re.fullmatch(pattern, line) for line in lines)
    return good


def check(commands, offset):
    v1, v2 = r"world v1 \([ab]\)", "world v2"
    expect(commands[1][0], every(f"hello, {v1}", 1), "a greeting with world v1")
    expect(commands[2][0], every(f"{v1}|{v2}", 20), "20 answers of world v1 or v2")
    expect(commands[3][0], every(f"hello, {v2}", 1), "a greeting with world v2")
    environment, get, edit, ask = commands[4]
    ctl = lambda command: f"{environment}; {command}"
    expect(ctl(get), lambda answer: "/svc/canary" in answer and "9.00*/host/world-v1" in answer, "the dtab in namerd")
    expect(ctl(edit), every("Updated demo.*|Set .*", 1), "that the entry is set")
    expect(ask, lambda answer: every(f"{v1}|{v2}", 20)(answer) and answer.count(v2) >= 4, "halves of both")
    history, rollback, delegate = commands[5]
    expect(ctl(history), lambda answer: "half and half" in answer, "the reason of the edit")
    expect(ctl(rollback), lambda answer: "demo" in answer, "that the dtab is the former one")
    expect(ctl(get), lambda answer: "9.00*/host/world-v1" in answer, "the former dtab")
    expect(ctl(delegate), lambda answer: "/#/io.l5d.fs/world-v1" in answer, "a delegation tree")
    expect(commands[6][0], every("bye", 1), "the farewell of a backend")
    # Once: no request may fail.
    print(f"$ {commands[6][1]}")
    answer = run(commands[6][1])
    if not every(v1, 20)(answer):
        sys.exit(f"{answer}\nwrong: expected 20 answers of the sibling")
    print(answer, end="")
    run(commands[7][0])
    expect(commands[7][1], every(v1, 1), "world v1")
    run(commands[8][0])
    expect(commands[8][1], every(v2, 1), "world v2")
    expect(commands[9][0], lambda answer: '"type":"alt"' in answer, "a delegation tree")
    expect(commands[9][1], lambda answer: "rt/outgoing/service/svc/world/requests" in answer, "request counters")
    by_grpcurl, unary, streamed, metrics = commands[10]
    if shutil.which("grpcurl"):
        expect(by_grpcurl, lambda answer: "hello, world, from greeter" in answer, "a greeting")
    # Two in a row may go to the same greeter, not always all.
    both = lambda answer: all(f"from greeter {name}" in answer for name in "ab")
    greetings = every("hello, world, from greeter [ab]", 6)
    expect(unary, lambda answer: greetings(answer) and both(answer), "6 greetings of both greeters")
    expect(streamed, every("hello, world, from greeter [ab] [1-5] of 5", 5), "5 greetings in one stream")
    expect(metrics, lambda answer: "grpc/status/OK" in answer, "counters of gRPC statuses")
    admin = f"http://localhost:{9990 + offset}"
    expect(f"curl -s {admin}/admin/ready", lambda answer: answer == "ready\n", "ready")
    if shutil.which("promtool"):
        # 3 is about style: the names are those of Linkerd 1.
        command = f"curl -s {admin}/admin/metrics/prometheus | promtool check metrics >/dev/null 2>&1; echo $?"
        expect(command, lambda answer: answer.strip() in ("0", "3"), "text that promtool can read")


def main():
    demo, lines, offset = start(sys.argv[1])
    try:
        commands = steps(lines)
        if sorted(commands) != list(range(1, 11)):
            sys.exit(f"the demo prints other steps than this script knows: {sorted(commands)}")
        check(commands, offset)
    finally:
        demo.terminate()
    code = demo.wait(timeout=60)
    if code != 0:
        sys.exit(f"the demo ended with {code}")
    print("the demo does what it says")


main()
