#!/bin/bash
# haproxy: TCP round robin in front of N nodes. KIT_NODES="host:port host:port ..." (default: the one server, listed three times).
# KIT_HEALTH=tcp|pgsql|http:PORT:/path  -- how HAProxy checks a node (pgsql-check is HAProxy's own pgwire probe).
. "$(dirname "$0")/../lib.sh"; HP=$(command -v haproxy || ls /usr/sbin/haproxy 2>/dev/null); [ -n "$HP" ] || { echo "SKIP haproxy: not installed"; exit 0; }
NODES=(${KIT_NODES:-$PGHOST:$PGPORT $PGHOST:$PGPORT $PGHOST:$PGPORT}); T=$(mktemp -d); LP=${KIT_LB_PORT:-16433}
gen() { { echo "global
  maxconn 2000
  stats socket $T/sock mode 600 level admin
defaults
  mode tcp
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  default-server inter 500ms fall 2 rise 1
listen pg
  bind 127.0.0.1:$LP
  balance roundrobin"
  case "$1" in pgsql) echo "  option pgsql-check user $PGUSER";; http:*) IFS=: read -r _ hp path <<<"$1"; echo "  option httpchk GET $path";; esac
  local i=0; for n in "${NODES[@]}"; do i=$((i+1)); echo "  server n$i $n check$( [[ "$1" == http:* ]] && echo " port $hp")"; done; } > "$T/h.cfg"; }
start() { gen "$1"; "$HP" -f "$T/h.cfg" >"$T/log" 2>&1 & HPID=$!; for _ in $(seq 40); do (exec 3<>/dev/tcp/127.0.0.1/$LP) 2>/dev/null && break; sleep 0.1; done; sleep 1.2; }
stop() { kill $HPID 2>/dev/null; wait $HPID 2>/dev/null; }
trap 'stop; rm -rf "$T"' EXIT
L="env PGHOST=127.0.0.1 PGPORT=$LP"
up() { perl -MIO::Socket::UNIX -e '$s=IO::Socket::UNIX->new(Peer=>$ARGV[0]);print $s "show stat\n";while(<$s>){print if /^pg,n/}' "$T/sock" | awk -F, '{print $2,$18}'; }
export -f up; export T
for h in tcp pgsql ${KIT_HEALTH:-}; do start $h
  t haproxy.health_${h%%:*}_all_up "^n${#NODES[@]} UP" bash -c up; stop; done
start ${KIT_HEALTH:-pgsql}
t haproxy.connect_each_node '^1' $L bash -c "for i in 1 2 3 4 5 6; do $PSQL -Atc 'select 1' || exit 1; done"
t haproxy.ddl_on_one_read_on_another '^0' $L bash -c "for i in 1 2 3 4 5; do $PSQL -qc 'drop table if exists kit_lb' 2>/dev/null; $PSQL -qc 'create table kit_lb (a int)' && $PSQL -Atc 'select count(*) from kit_lb' || exit 1; done"
t haproxy.write_on_one_read_on_another '^20' $L bash -c "for i in \$(seq 20); do $PSQL -qc \"insert into kit_lb values (\$i)\" || exit 1; n=\$($PSQL -Atc 'select count(*) from kit_lb'); [ \$n = \$i ] || { echo \"error: after insert \$i read \$n\"; exit 1; }; done; echo \$n"
t haproxy.cancel_reaches_the_right_node 'ERROR' $L bash -c "for i in 1 2 3; do timeout -s INT -k 6 1 $PSQL -c 'select pg_sleep(5)' 2>&1 | grep -iE 'ERROR:.*cancel|57014' || { echo 'error: not cancelled'; exit 1; }; done"
t haproxy.pgbench_30_clients 'tps = ' $L bash -c "echo 'select count(*) from kit_lb;' > $T/q.sql; pgbench -n -M prepared -c 30 -j 2 -t 10 -f $T/q.sql $PGDATABASE"
t haproxy.multi_host_dsn '^1' $PSQL -Atc 'select 1' "postgresql://$PGUSER@127.0.0.1:1,127.0.0.1:$LP/$PGDATABASE"
# three clients behind the balancer each increment one counter: nothing is lost
t haproxy.concurrent_increments '^60' $L bash -c "$PSQL -qc 'drop table if exists kit_lb_c' 2>/dev/null; $PSQL -qc 'create table kit_lb_c (v int)' -c 'insert into kit_lb_c values (0)'; for c in 1 2 3; do (n=0; while [ \$n -lt 20 ]; do $PSQL -qc 'update kit_lb_c set v = v + 1' 2>/dev/null && n=\$((n+1)); done) & done; wait; $PSQL -Atc 'select v from kit_lb_c'"
$PSQL -q -v ON_ERROR_STOP=0 -c 'drop table if exists kit_lb' -c 'drop table if exists kit_lb_c' >/dev/null 2>&1; true
