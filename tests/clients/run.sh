#!/bin/bash
# Runs real clients against the server at PGHOST PGPORT PGUSER PGDATABASE.
#   run.sh [group ...]      groups: psql psycopg3 tokio-postgres pgbench stream, and haproxy with KIT_NODES="host:port ..." (default: all)
#   KIT_CASE=glob           only the cases whose name matches (a whole name for tokio-postgres)
#   KIT_PY=python with psycopg, KIT_RUST=the built rust/ kit
# Prints one PASS, FAIL or SKIP line per case. A group that cannot run is a FAIL.
cd "$(dirname "$0")" || exit 2
. ./lib.sh
PY=${KIT_PY:-python3}
group() {
  case $1 in
  psql) bash sh/psql.sh ;;
  pgbench) bash sh/pgbench.sh ;;
  stream) bash stream/stream.sh ;;
  haproxy) bash lb/haproxy.sh ;;
  psycopg3) "$PY" -c 'import psycopg' && timeout 300 "$PY" py/psycopg3_cases.py ;;
  tokio-postgres) timeout 300 "${KIT_RUST:?set KIT_RUST to the built rust/ kit}" ;;
  *) echo "unknown group $1" >&2; exit 2 ;;
  esac
}
[ $# -gt 0 ] || set -- psql psycopg3 tokio-postgres pgbench stream ${KIT_NODES:+haproxy}
for g in "$@"; do
  lines=$(group "$g" 2>/dev/null | grep -E '^(PASS|FAIL|SKIP) ')
  printf '%s\n' "${lines:-FAIL $g: the group printed no case}"
done
