"""Which groups there are, in the order in which they run."""

import flow
import h1
import headers
import names
import overrides
import quiet
import smuggle
import tls


def framing(lab, results, options):
    """Every case of H1, in every form that it has. Refusals do not depend on the server: they take turns."""
    names, turn, slow = lab.names(), 0, flow.Slow(lab)
    for case in h1.CASES:
        for form in case.forms():
            servers = names if hasattr(case, "targets") else [names[turn % len(names)]]
            turn += 1
            for server in servers:
                results.attempt(case.ident, case.name, f"{server}, {form}",
                                lambda case=case, server=server, form=form: case.run(lab, server, form))
    flow.run(lab, results, options)
    results.attempt("H1-16", f"{slow.count} slow heads while all of this went on", "python", slow.check)


GROUPS = {"H1": framing, "H1-17": smuggle.run, "X": headers.run, "N": names.run, "O": overrides.run, "T": tls.run,
          "M": quiet.run}
