#!/bin/sh
# Makes a Citus cluster of the first server named, as its coordinator, and of the others, as its workers. Run again, it
# adds the workers that are missing, and tells all of them the passwords anew. Nothing is moved to a new worker until
# citus_rebalance_start().
#     cluster.sh COORDINATOR WORKER …
# Reads the owner's password from /run/secrets/postgres_password, and the service's from /run/secrets/database_url.
set -eu

[ $# -ge 2 ] || { echo "usage: $0 COORDINATOR WORKER …" >&2; exit 2; }
coordinator=$1
PGPASSWORD=$(cat /run/secrets/postgres_password)
SERVICE_PASSWORD=$(sed -E 's#^[^:]*://[^:]*:([^@]*)@.*#\1#' /run/secrets/database_url)
export PGUSER=daybook_owner PGDATABASE=daybook PGPASSWORD SERVICE_PASSWORD
# No statement with a password gets into a server's log or an error.
export PGOPTIONS='-c client_min_messages=warning -c log_min_error_statement=panic -c log_error_verbosity=terse'

# run SERVER [NAME=VALUE]: the statements of stdin, with a variable of psql's.
run() {
    psql --host "$1" --no-psqlrc --quiet --tuples-only --output /dev/null \
        --set ON_ERROR_STOP=1 --set VERBOSITY=terse ${2:+--set="$2"}
}

# tell_password SERVER ROLE VARIABLE: how the server logs in as the role at each of the others.
tell_password() {
    run "$1" role="$2" <<SQL
\\getenv password $3
BEGIN;
DELETE FROM pg_dist_authinfo WHERE nodeid = 0 AND rolename = :'role';
INSERT INTO pg_dist_authinfo (nodeid, rolename, authinfo) VALUES (0, :'role', 'password=' || :'password');
COMMIT;
SQL
}

for each in "$@"; do
    run "$each" <<'SQL'
CREATE EXTENSION IF NOT EXISTS citus;
ALTER SYSTEM SET citus.enable_statistics_collection = off; -- else the vendor is told daily
SELECT pg_reload_conf();
SQL
    tell_password "$each" daybook_owner PGPASSWORD
done
echo "SELECT citus_set_coordinator_host(:'host')" | run "$coordinator" host="$coordinator"
for each in "$@"; do
    if [ "$each" != "$coordinator" ]; then
        echo "SELECT citus_add_node(:'host', 5432)" | run "$coordinator" host="$each"
    fi
done
# Made here, and given its rights by `daybook migrate`: a server is told the password of a role that it has.
run "$coordinator" <<'SQL'
\getenv password SERVICE_PASSWORD
SELECT format('CREATE ROLE daybook_service LOGIN PASSWORD %L', :'password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'daybook_service')
\gexec
SQL
for each in "$@"; do
    tell_password "$each" daybook_service SERVICE_PASSWORD
done
echo "$coordinator is the coordinator, and this many workers have its shards: $(($# - 1))"
