"""What a case is, and how results are kept. Not for: how cases are sent (see `lab`)."""

import time
import traceback

from lab import Excepted, Wrong

HOST = b"%HOST%"


class Refused:
    """Bytes that must be refused by rule R. `%HOST%` stands for the service's name.

    `late`: refused in its body, so that its head may be under way when it arrives byte by byte. `silent`: closing
    without an answer is an answer. `closes`: framing is in doubt. An empty `reason` is not looked at.
    """

    def __init__(self, ident, name, data, reason, statuses=(400,), closes=True, late=False, silent=False):
        self.ident, self.name, self.data, self.reason = ident, name, data, reason
        self.statuses, self.closes, self.late, self.silent = statuses, closes, late, silent

    def bytes(self, host):
        return self.data.replace(HOST, host.encode())

    def forms(self):
        if len(self.data) > 8192:
            return ["whole"]
        return ["whole", "split", "after", "before"]

    def run(self, lab, server, form):
        lab.refused(server, self, form)


class Passed:
    """Bytes that must come through, with the targets that the server must see and the statuses of the answers."""

    def __init__(self, ident, name, data, targets, statuses=None, methods=None, closes=False):
        self.ident, self.name, self.data, self.targets = ident, name, data, targets
        self.statuses = statuses or [200] * len(targets)
        self.methods, self.closes = methods or ["GET"] * len(self.statuses), closes

    def bytes(self, host):
        return self.data.replace(HOST, host.encode())

    def forms(self):
        return ["whole", "split"]

    def run(self, lab, server, form):
        lab.passed(server, self, form)


class Results:
    """What was proven and what was not. Only checks that have `only` in their id, name or place are run."""

    def __init__(self, only=""):
        self.rows, self.started, self.only = [], time.monotonic(), only

    def attempt(self, ident, name, where, work):
        """Runs one check and keeps its outcome. True: it held."""
        if self.only not in f"{ident} {name} [{where}]":
            return True
        self.started = time.monotonic()
        try:
            work()
        except Wrong as error:
            self.add(ident, name, where, "failed", str(error))
            return False
        except Excepted as error:
            self.add(ident, name, where, "skipped", f"exception: {error}")
            return True
        except Exception as error:  # Whatever else goes wrong is a failure of this case, not of the run.
            self.add(ident, name, where, "failed", f"{error!r}\n{traceback.format_exc(limit=-4)}")
            return False
        self.add(ident, name, where, "held", "")
        return True

    def add(self, ident, name, where, outcome, detail):
        ms = round((time.monotonic() - self.started) * 1000)
        self.rows.append({"id": ident, "case": name, "where": where, "outcome": outcome, "ms": ms, "detail": detail})
        if outcome == "failed":
            print(f"FAILED {ident} {name} [{where}]: {detail[:700]}", flush=True)

    def failed(self):
        return [row for row in self.rows if row["outcome"] == "failed"]

    def summary(self):
        """By id: how many checks held, failed, were left out."""
        found = {}
        for row in self.rows:
            counts = found.setdefault(row["id"], {"held": 0, "failed": 0, "skipped": 0})
            counts[row["outcome"]] += 1
        return found
