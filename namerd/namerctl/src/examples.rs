//! Texts below the help of each command.

/// Of `namerctl` itself; the words of the first one, which scripts and people know.
pub(crate) const ABOUT: &str = "\
namerd manages delegation tables for linkerd and Switchyard.

namerctl looks for a configuration file in the current working directory or any of its parent directories. Configuration \
files are named .namerctl.<ext> where <ext> is json, toml, yaml, yml, properties, props or prop; the first of them, in this order, counts. Every global option may be in it, and \
in the environment: --base-url is `base-url` in the file and NAMERCTL_BASE_URL in the environment. A flag comes before the \
environment, and that before the file.

Exit status: 0 success, 1 failure, 2 `dtab plan` found changes, 130 interrupted.";

pub(crate) const TOP: &str = "\
Examples:
  export NAMERCTL_BASE_URL=http://namerd.example.com:4180
  namerctl dtab list
  namerctl dtab set internal /host/world /srv/world-v2 --author ann --reason 'release 2'
  namerctl delegate internal /svc/world";

pub(crate) const DTAB: &str = "\
Examples:
  namerctl dtab get internal
  namerctl dtab plan internal new.dtab && echo no destination changes";

pub(crate) const LIST: &str = "Examples:\n  namerctl dtab list\n  namerctl dtab list --json";

pub(crate) const GET: &str = "\
Examples:
  namerctl dtab get internal
  namerctl dtab get internal >/dev/null 2>&1 || echo there is none
  namerctl dtab get internal --json > internal.json   # with its version, for `dtab update`";

pub(crate) const CREATE: &str = "\
Examples:
  namerctl dtab create internal internal.dtab
  echo '/svc => /#/io.l5d.fs' | namerctl dtab create internal -";

pub(crate) const UPDATE: &str = "\
A JSON file with a version, as `dtab get --json` prints it, is written only over that version.

Examples:
  namerctl dtab update internal internal.dtab
  namerctl dtab get internal --json > i.json; edit i.json; namerctl dtab update internal i.json
  namerctl dtab update internal internal.dtab --version MTc0Mg==";

pub(crate) const DELETE: &str = "Examples:\n  namerctl dtab delete internal";

pub(crate) const SET: &str = "\
Reads the dtab, changes one entry and writes it over what was read, again and again until nobody was faster. All other
entries, and the order, stay.

Examples:
  namerctl dtab set internal /host/world '1 * /srv/world-v2 & 9 * /srv/world-v1'
  namerctl dtab set preview /svc /srv --create";

pub(crate) const UNSET: &str = "Examples:\n  namerctl dtab unset internal /host/world";

pub(crate) const HISTORY: &str = "\
Examples:
  namerctl dtab history internal
  namerctl dtab history internal --limit 100 --json";

pub(crate) const DIFF: &str = "\
Examples:
  namerctl dtab diff internal                  # what the last write changed
  namerctl dtab diff internal MTc0Mg==         # what has changed since
  namerctl dtab diff internal MTc0Mg== MTc1MA==";

pub(crate) const ROLLBACK: &str = "\
Nothing is written when somebody else writes at the same time.

Examples:
  namerctl dtab rollback internal              # undo the last write
  namerctl dtab rollback internal MTc0Mg== --reason 'world-v2 loses orders'";

pub(crate) const PLAN: &str = "\
Compares the namespace as it is with the file alone, by the namers of namerd as they are now, for all names that routers
have asked for within the last hour. Exit status: 0 nothing changes, 2 something does, 1 failure, also by --scope.

Examples:
  namerctl dtab plan internal new.dtab
  namerctl dtab plan internal new.dtab --scope /svc/world --json
  namerctl dtab plan internal new.dtab --name /svc/world --name /svc/web
  namerctl dtab plan internal new.dtab --names names.txt";

pub(crate) const CHECK: &str = "\
Errors make requests fail: the file does not parse, entries lead back to themselves, a lookup explodes. Warnings have no
effect, or not the one they seem to have: entries that others hide, alternatives that cannot win, weights of 0, names that
nothing answers. Exit status: 0 unless there is an error, or with --strict a warning.

Examples:
  namerctl dtab check internal.dtab
  namerctl dtab get internal | namerctl dtab check - --strict
  namerctl dtab check internal.dtab --root /svc --json";

pub(crate) const TEST: &str = "\
A file has a dtab, what namers are assumed to answer, and cases:

  file: internal.dtab              # or  dtab: |  and the text
  namers:
    /#/io.l5d.fs/*: bound          # bound, neg, fail, empty, pending, failed, or another name
  cases:
  - name: /svc/world
    expect: /#/io.l5d.fs/world-v1  # a tree of concrete names, or neg, fail, empty, pending, failed
  - name: /svc/world
    headers: {l5d-dtab: /host/world => /srv/world-v2}
    expect: /#/io.l5d.fs/world-v2
  - title: without v2 all goes to v1
    name: /svc/world
    namers: {/#/io.l5d.fs/world-v2: neg}
    expect: /#/io.l5d.fs/world-v1

Examples:
  namerctl dtab test routing.yaml";

pub(crate) const DELEGATE: &str = "\
The alternative that wins is marked by *; branches show their share.

Examples:
  namerctl delegate internal /svc/world
  namerctl delegate internal /svc/world --dtab '/host/world => /tmp/world-v2'
  namerctl delegate internal /svc/world --json";

pub(crate) const SHIFT: &str = "\
Each step is one compare-and-set on that entry: others may edit everything else at the same time; if they change this entry,
the shift ends and theirs stays. SIGINT, SIGTERM and SIGHUP end it between two writes and say what
is in namerd then.
With --abort-if every step, the last one too, is judged when its time is over; a bad one puts the old destination back. A
step with too few requests, or with metrics that cannot be read, is prolonged up to ten times and then counts as bad.
Connections that cannot be made count as failures.

Examples:
  namerctl shift internal /host/world --from /srv/world-v1 --to /srv/world-v2 --steps 1,10,50,100 --every 1m --dry-run
  namerctl shift internal /host/world --from /srv/world-v1 --to /srv/world-v2 --steps 1,10,50,100 --every 5m \\
    --abort-if 'success<99.5' --metrics http://router-a:9990,http://router-b:9990 --min-requests 200";

pub(crate) const COMPLETION: &str = "\
Examples:
  namerctl completion bash > /etc/bash_completion.d/namerctl
  namerctl completion zsh > ~/.zfunc/_namerctl
  namerctl completion fish > ~/.config/fish/completions/namerctl.fish";
