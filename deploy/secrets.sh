#!/bin/sh
# Makes the passwords and the key that compose.yaml reads, once: files in secrets/, beside compose.yaml.
#     deploy/secrets.sh [FOLDER]          another folder goes into .env too, as SECRETS
# Whoever may enter the folder may read them: on this machine, its owner alone. In a container they are under
# /run/secrets, where its user must be able to read them. Needs openssl.
set -eu

folder=${1:-$(dirname "$0")/../secrets}
folder=${folder%/}
if [ -e "$folder" ]; then
    echo "$folder is there already: a database may know these passwords, so that they stay as they are"
    exit 0
fi

random() {
    openssl rand -hex 24
}

umask 022
# The folder gets its name when all is in it: one that is half made would be taken for a whole one next time.
draft=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$draft"' EXIT
trap 'exit 1' HUP INT TERM
owner=$(random)
service=$(random)
key=$(random)
printf '%s' "$owner" > "$draft/postgres_password"
printf '%s' "postgresql://daybook_owner:$owner@postgres:5432/daybook" > "$draft/database_url_direct"
printf '%s' "postgresql://daybook_service:$service@postgres:5432/daybook" > "$draft/database_url"
printf '%s' "postgresql://daybook_service:$service@pgbouncer:6432/daybook?pgbouncer=true" > "$draft/database_url_pooled"
printf '"daybook_service" "%s"\n' "$service" > "$draft/pgbouncer_users"
printf '%s' "$key" > "$draft/jwt_secret"
mv "$draft" "$folder"
echo "$folder has the passwords of both logins, and the key of the tokens (jwt_secret): write your own into it"
