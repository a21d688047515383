#!/usr/bin/env bash
# A client and a worker in curl: what an SDK does, request by request. Needs bash, curl and python3 (to read JSON).
set -euo pipefail

url=${DW_URL:-http://localhost:8080}
token=${DW_TOKEN:-dev-token}
queue=parcels-$RANDOM$RANDOM
workflow=parcel-$RANDOM$RANDOM

control() { # control METHOD PATH [BODY]
    curl -sS --fail-with-body -X "$1" "$url/api$2" -H "Authorization: Bearer $token" -H "X-Namespace: default" \
        -H "X-Durable-Workflow-Control-Plane-Version: 2" -H "Content-Type: application/json" ${3:+-d "$3"}
}
work() { # work PATH BODY
    curl -sS --fail-with-body "$url/api/worker$1" -H "Authorization: Bearer $token" -H "X-Namespace: default" \
        -H "X-Durable-Workflow-Protocol-Version: 1.0" -H "Content-Type: application/json" -d "$2"
}
field() { # field KEY [KEY...]: a value of the JSON object on stdin
    python3 -c 'import functools, json, sys; print(functools.reduce(lambda d, k: d[k], sys.argv[1:], json.load(sys.stdin)))' "$@"
}
poll() { # poll workflow|activity: ask until there is a task
    local answer
    while answer=$(work "/$1-tasks/poll" "{\"worker_id\": \"$queue\", \"task_queue\": \"$queue\"}") &&
        [ "$(field task <<<"$answer")" = None ]; do :; done
    echo "$answer"
}

# A worker makes itself known, a client starts a workflow.
work /register "{\"worker_id\": \"$queue\", \"task_queue\": \"$queue\", \"runtime\": \"external\"}" >/dev/null
control POST /workflows \
    "{\"workflow_id\": \"$workflow\", \"workflow_type\": \"deliver\", \"task_queue\": \"$queue\", \"input\": [\"parcel 7\"]}" >/dev/null

# The first workflow task: the history so far says that nothing was done, so ask for an activity.
task=$(poll workflow)
id=$(field task task_id <<<"$task")
work "/workflow-tasks/$id/complete" "{\"lease_owner\": \"$queue\", \"workflow_task_attempt\": 1, \"commands\": [
    {\"type\": \"schedule_activity\", \"activity_type\": \"drive\", \"task_queue\": \"$queue\", \"input\": [\"parcel 7\"]}]}" >/dev/null

# The activity: do it, report what came of it.
task=$(poll activity)
id=$(field task task_id <<<"$task")
attempt=$(field task activity_attempt_id <<<"$task")
work "/activity-tasks/$id/complete" \
    "{\"activity_attempt_id\": \"$attempt\", \"lease_owner\": \"$queue\", \"result\": \"left at the door\"}" >/dev/null

# The second workflow task: the activity is done, and so is the workflow.
task=$(poll workflow)
id=$(field task task_id <<<"$task")
work "/workflow-tasks/$id/complete" "{\"lease_owner\": \"$queue\", \"workflow_task_attempt\": 1, \"commands\": [
    {\"type\": \"complete_workflow\", \"result\": {\"delivered\": true}}]}" >/dev/null

described=$(control GET "/workflows/$workflow")
echo "$(field status <<<"$described"): $(field output <<<"$described")"
control GET "/workflows/$workflow/runs/$(field run_id <<<"$described")/history" |
    python3 -c 'import json, sys; [print(event["sequence"], event["event_type"]) for event in json.load(sys.stdin)["events"]]'
