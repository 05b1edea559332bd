"""Checks every crate of the lock file against deny.toml: licences on the allow-list, no forbidden crate.

Licences are those that `cargo metadata` reports, for all packages. Forbidden crates are looked for in `cargo tree`,
which shows what is built: `cargo metadata` also lists optional dependencies that no feature turns on.
"""

import json
import re
import subprocess
import sys


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def listed(text, key):
    """The quoted words of the first list called `key`."""
    found = re.search(rf"^{key} = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    if not found:
        sys.exit(f"deny.toml has no list `{key}`")
    lines = [line.split("#")[0] for line in found.group(1).splitlines()]
    return set(re.findall(r'"([^"]+)"', "\n".join(lines)))


def allowed(expression, allow):
    """Whether a licence expression can be met with the licences of `allow`. `/` is an old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)

    def either(at):
        good, at = both(at)
        while at < len(tokens) and tokens[at] in ("OR", "/"):
            right, at = both(at + 1)
            good = good or right
        return good, at

    def both(at):
        good, at = one(at)
        while at < len(tokens) and tokens[at] == "AND":
            right, at = one(at + 1)
            good = good and right
        return good, at

    def one(at):
        if tokens[at] == "(":
            good, at = either(at + 1)
            return good, at + 1
        name = tokens[at]
        if tokens[at + 1:at + 2] == ["WITH"]:
            return f"{name} WITH {tokens[at + 2]}" in allow, at + 3
        return name in allow, at + 1

    return either(0)[0]


def main():
    with open("deny.toml", encoding="utf-8") as file:
        rules = file.read()
    allow, forbidden = listed(rules, "allow"), listed(rules, "deny")
    wrong = []
    packages = json.loads(run("cargo", "metadata", "--format-version", "1"))["packages"]
    for package in packages:
        licence = package["license"]
        if not licence or not allowed(licence, allow):
            wrong.append(f"{package['name']} {package['version']}: licence {licence!r} is not on the list of deny.toml")
    tree = run("cargo", "tree", "--workspace", "--target", "all", "-e", "all", "--prefix", "none", "--format", "{p}")
    built = {line.split()[0] for line in tree.splitlines() if line.strip()}
    wrong += [f"{name}: a forbidden crate is built; `cargo tree --target all -i {name}` says why"
              for name in sorted(built & forbidden)]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(packages)} packages: all licences are allowed; none of {', '.join(sorted(forbidden))} is built")


main()
