#!/bin/bash
# The verdict over run.sh: which cases count, and which are excused.
#   check.sh [group ...]    (default: all groups)
# Counts: psql tier 1, pgbench tiers 1 and 2, every case of psycopg3, tokio-postgres, stream and haproxy (tiers.txt). With KIT_NODES, the addresses
# of several nodes, haproxy belongs to the groups, and stream has more cases.
# Fails on a counting case that fails, is skipped or is missing although excused by name, unless exceptions.txt names it with a reason;
# and on an exception whose case passes, so that the list cannot outlive its reasons. Cases of higher tiers are reported, not counted.
cd "$(dirname "$0")" || exit 2
set -u
declare -A reason
while IFS=$'\t' read -r name why; do
  [[ -z $name || $name == \#* ]] && continue
  [ -n "$why" ] || { echo "exceptions.txt: $name has no reason"; exit 2; }
  [[ -n ${KIT_NODES:-} && $why == "needs several nodes" ]] && continue
  reason[$name]=$why
done < exceptions.txt

tier() {
  local glob t
  while IFS=$'\t' read -r glob t; do
    # shellcheck disable=SC2053  # the left side is a name, the right side is meant as a pattern
    [[ $glob != \#* && $1 == $glob ]] && { echo "$t"; return; }
  done < tiers.txt
}
counts() { # name tier
  case $1 in
  psql.* | psql) [ "$2" -le 1 ] ;;
  pgbench.* | pgbench) [ "$2" -le 2 ] ;;
  *) true ;;
  esac
}

groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(psql psycopg3 tokio-postgres pgbench stream ${KIT_NODES:+haproxy})
passed=0 excused=0 failed=0 beyond_pass=0 beyond_fail=0
declare -A seen
for g in "${groups[@]}"; do
  while IFS= read -r line; do
    verdict=${line%% *}; rest=${line#* }; name=${rest%%:*}
    seen[$name]=1
    if ! counts "$name" "$(tier "$name")"; then
      if [ "$verdict" = PASS ]; then beyond_pass=$((beyond_pass + 1)); else beyond_fail=$((beyond_fail + 1)); echo "beyond $line"; fi
    elif [ "$verdict" = PASS ] && [ -n "${reason[$name]:-}" ]; then
      failed=$((failed + 1)); echo "STALE $name passes, but exceptions.txt excuses it: ${reason[$name]}"
    elif [ "$verdict" = PASS ]; then
      passed=$((passed + 1))
    elif [ -n "${reason[$name]:-}" ]; then
      excused=$((excused + 1)); echo "excused $name: ${reason[$name]}"
    else
      failed=$((failed + 1)); echo "$line"
    fi
  done < <(./run.sh "$g")
done
for name in "${!reason[@]}"; do
  for g in "${groups[@]}"; do
    [[ $name == "$g".* && -z ${seen[$name]:-} ]] && { failed=$((failed + 1)); echo "STALE exceptions.txt names $name, which no longer exists"; }
  done
done
echo "clients: $passed passed, $excused excused, $failed failed; beyond the wanted tiers: $beyond_pass passed, $beyond_fail failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
