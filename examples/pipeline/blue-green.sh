#!/usr/bin/env bash
# Brings a new version of a service into traffic: 10 %, 100 %, cleanup; and back at any gate. Shows: the pipeline that
# Linkerd's examples ran in Jenkins, with namerctl against any namerd.
#
# Needs NAMERCTL_BASE_URL (and NAMERCTL_TOKEN, if namerd wants one), and a namespace with these entries:
#
#   /srv => /#/io.l5d.fs ; /host => /srv ; /tmp => /srv ; /svc => /host ; /host/world => /srv/world-v1
#
# Try it:
#
#   examples/pipeline/blue-green.sh internal world world-v1 world-v2
#
# While it runs, the entry is `/tmp/...` in place of `/srv/...`: that is the lock by which two runs cannot meet. The hooks
# below are where a real pipeline deploys, tests and asks. Each is a command; its failure takes everything back.
set -euo pipefail

namespace=${1:?usage: $0 NAMESPACE SERVICE OLD NEW}
service=${2:?the service, such as world}
old=${3:?the version that has the traffic, such as world-v1}
new=${4:?the new version, such as world-v2}

deploy=${DEPLOY:-true}         # starts the new version
integration=${INTEGRATION:-true} # tests it by the header l5d-dtab: $OVERRIDE
gate=${GATE:-true}             # asks whether to go on; gets the stage as its argument
remove=${REMOVE:-true}         # takes a version away; gets it as its argument
namerctl=${NAMERCTL:-namerctl}

entry=/host/$service
export OVERRIDE="$entry => /tmp/$new"

say() { printf '== %s\n' "$*"; }

# Changes the entry if it is still what this run has written; somebody else's change ends the run.
change() {
  local expected=$1 dst=$2
  "$namerctl" shift "$namespace" "$entry" --from "$expected" --to "$dst" --steps 100 --every 1s \
    --reason "blue-green of $service: $3"
  current=$dst
}

rollback() {
  trap - ERR
  say "rollback: $entry => /srv/$old"
  change "$current" "/srv/$old" rollback
  "$remove" "$new"
  exit 1
}

say "lock: only a service that nobody else deploys"
change "/srv/$old" "/tmp/$old" lock
trap rollback ERR INT TERM

say "deploy $new"
"$deploy" "$new"

say "integration test with l5d-dtab: $OVERRIDE"
"$integration"
"$gate" integration

say "shift 10%"
change "/tmp/$old" "1 * /tmp/$new & 9 * /tmp/$old" "10%"
"$gate" 10%

say "shift 100%, the old version as fallback"
change "$current" "/tmp/$new | /tmp/$old" "100%"
"$gate" 100%

trap - ERR INT TERM
say "cleanup"
change "$current" "/srv/$new" cleanup
"$remove" "$old"
say "done: $entry => /srv/$new"
