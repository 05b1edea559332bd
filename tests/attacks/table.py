"""Checks the table of docs/security.md: every id is there once, every test that it names exists. Called by `run`."""

import os
import re

GROUPS = {"O": 13, "D": 6, "N": 6, "A": 11, "H1-": 17, "H2-": 15, "X": 9, "T": 7, "M": 5, "S": 7}
IDS = [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)]


def rows(root):
    """Id to the cells of its row; those that stand more than once are joined."""
    with open(os.path.join(root, "docs", "security.md"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"(H[12]-|[A-Z])\d+", cells[0]):
            found.setdefault(cells[0], []).append(cells)
    return found


def problems(root):
    """What is wrong with the table, as lines."""
    found = rows(root)
    wrong = [f"{ident} is missing" for ident in IDS if ident not in found]
    wrong += [f"{ident} is no id of the list" for ident in found if ident not in IDS]
    wrong += [f"{ident} stands {len(cells)} times" for ident, cells in found.items() if len(cells) > 1]
    for ident, (cells, *_) in found.items():
        wrong += [f"{ident}: {problem}" for problem in check(root, cells)]
    return wrong


def check(root, cells):
    if len(cells) != 4 or not all(cells):
        return [f"{len(cells)} cells, or an empty one"]
    proof = cells[3]
    wrong = [problem for token in re.findall(r"`([^`]+)`", proof) for problem in missing(root, token)]
    if "`" not in proof and not re.search(r"\b(runner|later: \w+|recorded on \d{4}-\d\d-\d\d)", proof):
        wrong.append(f"nothing proves it, and it does not say why: {proof!r}")
    return wrong


def missing(root, token):
    """Why a test or file that the table names is not there."""
    place, mark, test = token.partition("::")
    path = os.path.join(root, place if "/" in place or not mark else f"tests/tests/{place}.rs")
    if not os.path.exists(path):
        return [f"there is no {os.path.relpath(path, root)}"]
    if not mark:
        return []
    with open(path, encoding="utf-8") as file:
        return [] if re.search(rf"\bfn {test}\b", file.read()) else [f"there is no test {test} in {place}"]


def unproven(root, summary):
    """Ids that say `runner` and of which a whole run had no case that held, nor one that it left out and said so."""
    claimed = [ident for ident, (cells, *_) in rows(root).items() if re.search(r"\brunner\b", cells[3])]
    return [f"{ident}: the table says that the runner proves it; no case of it held"
            for ident in claimed if not any(summary.get(ident, {}).get(way) for way in ["held", "skipped"])]


if __name__ == "__main__":
    import sys

    listed = problems(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.exit("\n".join(f"docs/security.md: {problem}" for problem in listed) or None)
