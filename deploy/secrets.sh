#!/bin/sh
# Makes the passwords and the key that compose.yaml reads, once: files in secrets/, beside compose.yaml.
#     deploy/secrets.sh [FOLDER]          another folder goes into .env too, as SECRETS
# Whoever may enter the folder may read them: on this machine, its owner alone. In a container they are under
# /run/secrets, where its user must be able to read them. Needs openssl.
set -eu

folder=${1:-$(dirname "$0")/../secrets}
if [ -e "$folder" ]; then
    echo "$folder is there already: a database may know these passwords, so that they stay as they are"
    exit 0
fi

random() {
    openssl rand -hex 24
}

umask 022
mkdir -m 700 "$folder"
cd "$folder"
owner=$(random) service=$(random)
printf '%s' "$owner" > postgres_password
printf '%s' "postgresql://daybook_owner:$owner@postgres:5432/daybook" > database_url_direct
printf '%s' "postgresql://daybook_service:$service@postgres:5432/daybook" > database_url
printf '%s' "postgresql://daybook_service:$service@pgbouncer:6432/daybook?pgbouncer=true" > database_url_pooled
printf '"daybook_service" "%s"\n' "$service" > pgbouncer_users
random | tr -d '\n' > jwt_secret
echo "$folder has the passwords of both logins, and the key of the tokens (jwt_secret): write your own into it"
