#!/bin/sh
# Does a deployed Daybook work? Makes a task, changes it, reads its past, deletes it; stops at the first wrong answer.
#     deploy/smoke.sh http://127.0.0.1:8000 "$(docker compose exec -T api daybook token ann)" ann
# Leaves the deleted task's events in the log of USER. Needs curl.
set -eu

[ $# -eq 3 ] || { echo "usage: $0 BASE_URL TOKEN USER" >&2; exit 2; }
base=${1%/} token=$2 user=$3 wait=${SMOKE_WAIT:-60} task=

fail() {
    echo "smoke: $*" >&2
    exit 1
}

# call STATUS METHOD PATH [JSON]: sets $body; anything but STATUS is a failure.
call() {
    expected=$1 method=$2 path=$3
    shift 3
    answer=$(curl --silent --show-error --max-time 10 --write-out '\n%{http_code}' --request "$method" "$base$path" \
        --header "Authorization: Bearer $token" ${1:+--header "Content-Type: application/json" --data "$1"}) ||
        fail "$method $path: no answer"
    status=${answer##*
}
    body=${answer%
*}
    [ "$status" = "$expected" ] || fail "$method $path: $status instead of $expected: $body"
}

# has TEXT: the last answer's body contains it.
has() {
    case $body in *"$1"*) ;; *) fail "$method $path: no $1 in: $body" ;; esac
}

clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$task" ]; then (call 204 DELETE "/api/$user/tasks/$task") || status=1; fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

until curl --silent --fail --max-time 5 --output /dev/null "$base/readyz"; do
    [ "$wait" -gt 0 ] || fail "$base/readyz: not ready in time: $(curl -sS --max-time 5 "$base/readyz" 2>&1)"
    wait=$((wait - 1))
    sleep 1
done

title="smoke test $(date +%s) $$"
call 201 POST "/api/$user/tasks" "{\"title\": \"$title\"}"
has "\"title\":\"$title\"" && has '"completed":false' && has '"version":1'
task=${body#*'"id":"'} task=${task%%'"'*}

call 200 GET "/api/$user/tasks?limit=1000"
has "\"id\":\"$task\""

call 200 PATCH "/api/$user/tasks/$task/complete"
has "\"id\":\"$task\"" && has '"completed":true' && has '"version":2'

call 200 GET "/api/$user/audit?task_id=$task"
has '"type":"TaskCreated"' && has '"type":"TaskToggled"'

gone=$task
call 204 DELETE "/api/$user/tasks/$task"
task=
call 404 GET "/api/$user/tasks/$gone"
call 200 GET "/api/$user/tasks/$gone/history"
has '"type":"TaskDeleted"'

echo "smoke: $base works: created, listed, toggled, audited, deleted"
