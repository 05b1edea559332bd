"""Group H2: hostile frames, and honest ones that look like them."""

import h1
import h2cases
import h2conform
import h2floods
import h2flow
from h2lab import ORIGIN, Bridge, Site


def downgraded(site, results):
    """The cases of H1 before services of HTTP/2: what is refused is refused, what comes through comes through once."""
    bridge = Bridge(site)
    for turn, case in enumerate(h1.CASES):
        forms = case.forms()
        for form in dict.fromkeys([forms[0], forms[turn % len(forms)]]):
            results.attempt(case.ident, case.name, f"h1h2, {form}",
                            lambda case=case, form=form: getattr(bridge, "passed" if hasattr(case, "targets") else "refused")(
                                ORIGIN, case, form, "h1h2"))


def run(lab, results, _options):
    site = Site(lab)
    try:
        for part in [h2conform.run, h2cases.run, downgraded]:
            part(site, results)
        # From here on nothing is counted one by one: what these are refused for comes in between.
        silent = h2flow.Silent(site)
        h2flow.run(site, results)
        h2floods.run(site, results)
        for kind in ["half a head", "half a frame", "half a preface"]:
            results.attempt("H2-5", f"{kind} and silence", "all", lambda kind=kind: silent.check(kind))
        results.attempt("H2-14", "alive and unharmed", "all", site.router.unharmed)
        site.show(results)
    finally:
        site.stop()
