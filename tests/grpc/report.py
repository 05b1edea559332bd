"""Outcomes of a run: rows of a group, a case, a pair of peers and a topology; the table and the file of them."""

import json
import threading

# So many failures are printed as they come; the others are in the file.
SHOWN = 60

# The columns of the table.
TOPOLOGIES = ["one, plain", "one, TLS", "two, plain", "two, TLS"]


class Report:
    """Rows are added from several threads."""

    def __init__(self):
        self.rows, self.lock = [], threading.Lock()

    def add(self, group, case, topology, outcome, detail="", pair="", ms=0, command=""):
        """`outcome` is held, failed, excused or skipped; `command` repeats a failed one."""
        row = {"group": group, "case": case, "pair": pair, "topology": topology, "outcome": outcome, "ms": ms,
               "detail": detail}
        if outcome == "failed":
            row["command"] = command
        with self.lock:
            self.rows.append(row)
            if outcome == "failed" and len(self.failed()) <= SHOWN:
                print(f"FAILED {group}: {case} [{topology}{', ' + pair if pair else ''}]: {detail[:500]}", flush=True)
                if command:
                    print(f"       {command}", flush=True)

    def skip(self, group, case, reason):
        for topology in TOPOLOGIES:
            self.add(group, case, topology, "skipped", reason)

    def failed(self):
        return [row for row in self.rows if row["outcome"] == "failed"]

    def counts(self):
        found = {"held": 0, "failed": 0, "excused": 0, "skipped": 0}
        for row in self.rows:
            found[row["outcome"]] += 1
        return found

    def cells(self):
        """[(group, case, a cell of each topology, the reason of what was left out)], in order of their first rows."""
        found = {}
        for row in self.rows:
            found.setdefault((row["group"], row["case"]), []).append(row)
        order = list(dict.fromkeys(group for group, _ in found))
        for (group, case), rows in sorted(found.items(), key=lambda item: order.index(item[0][0])):
            cells = [cell([row for row in rows if row["topology"] == topology]) for topology in TOPOLOGIES]
            reasons = dict.fromkeys(row["detail"] for row in rows if row["outcome"] == "skipped")
            yield group, case, cells, "; ".join(reasons)

    def text(self):
        rows = [("group", "case", TOPOLOGIES, ""), *self.cells()]
        return "\n".join(f"{group:<9}{case:<39}{''.join(f'{one:>14}' for one in cells)}  {reason}".rstrip()
                         for group, case, cells, reason in rows)

    def markdown(self):
        lines = ["| Group | Case | " + " | ".join(TOPOLOGIES) + " |", "|---|---|" + "---|" * len(TOPOLOGIES)]
        lines += [f"| {group} | {case.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |"
                  for group, case, cells, _ in self.cells()]
        return "\n".join(lines)

    def write(self, path, **more):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**more, "counts": self.counts(), "rows": self.rows}, file, indent=1)


def cell(rows):
    if not rows:
        return "-"
    count = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("held", "failed", "excused")}
    if count["failed"]:
        return f"{count['failed']}/{sum(count.values())} FAILED"
    if not count["held"]:
        return "excused" if count["excused"] else "skipped"
    text = f"{count['held']} held" if len(rows) > 1 else "held"
    return f"{text}+{count['excused']}" if count["excused"] else text
