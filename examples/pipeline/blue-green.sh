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
# below are where a real pipeline deploys, tests and asks. Each is a command; its failure takes everything back, and so does
# that of any step.
# -E: a failure inside a function rolls back, too.
set -Eeuo pipefail

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
  written=$dst
}

# What the entry is in namerd now: the answer to the last write may have been lost.
current() {
  "$namerctl" dtab get "$namespace" --pretty=false | tr ';' '\n' | awk -v entry="$entry=>" '
    index($0, entry) == 1 { dst = substr($0, length(entry) + 1) }
    END { print dst }'
}

rollback() {
  trap - ERR
  trap '' INT TERM HUP
  local now
  if ! now=$(current); then
    say "rollback failed: namerd does not say what $entry is. Look at it, and put /srv/$old back"
    exit 1
  fi
  case " $now " in
    " /srv/$old ") say "$entry => $now is as it was" ;;
    *"/tmp/$new "* | *"/tmp/$old "*)
      say "rollback: $entry => /srv/$old"
      change "$now" "/srv/$old" rollback ;;
    *)
      say "no rollback: $entry => $now is not what this run has written"
      exit 1 ;;
  esac
  "$remove" "$new"
  exit 1
}

say "lock: only a service that nobody else deploys"
change "/srv/$old" "/tmp/$old" lock
trap rollback ERR INT TERM HUP

say "deploy $new"
"$deploy" "$new"

say "integration test with l5d-dtab: $OVERRIDE"
"$integration"
"$gate" integration

say "shift 10%"
change "/tmp/$old" "1 * /tmp/$new & 9 * /tmp/$old" "10%"
"$gate" 10%

say "shift 100%, the old version as fallback"
change "$written" "/tmp/$new | /tmp/$old" "100%"
"$gate" 100%

say "cleanup"
change "$written" "/srv/$new" cleanup
trap - ERR INT TERM HUP
"$remove" "$old"
say "done: $entry => /srv/$new"
