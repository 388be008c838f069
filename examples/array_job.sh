#!/usr/bin/env bash
# One element of an array job: collect the histories of one task, whatever machine it lands on.
#
#   sbatch --array=0-44 --requeue --signal=B:TERM@60 array_job.sh
#
# The scheduler may stop and requeue it at any time: exit code 143 means "work kept, run me again".
# Every task gets an artifact of its own name, so that no two elements wait for each other; pack
# them together afterwards:
#
#   vintix pack $(vintix artifacts ls --kind histories --json | python3 -c '
#   import json, sys
#   names = {row["name"] for row in json.load(sys.stdin)["artifacts"]}
#   print(" ".join("--histories " + name for name in sorted(names)))') --name all
set -euo pipefail

export VINTIX_WORKSPACE="${WORKSPACE:-./artifacts}"
INDEX="${SLURM_ARRAY_TASK_ID:-${INDEX:-0}}"
DOMAIN="${DOMAIN:-metaworld}"
SCALE="${SCALE:-1.0}"

TASK="$(vintix tasks --domain "$DOMAIN" --split train --no-variations --json |
    python3 -c "import json, sys; print(json.load(sys.stdin)['tasks'][$INDEX]['name'])")"

child=""
stop() {
    if [ -n "$child" ]; then
        kill -TERM "$child" || true
        wait "$child" || true
    fi
    exit 143
}
# Bash runs a trap only between two commands: the work is done beside it, and waited for.
run() {
    "$@" &
    child=$!
    wait "$child"
}
trap stop TERM

run vintix demonstrators --task "$TASK" --name "$TASK" --workers 1
run vintix distill --task "$TASK" --demonstrators "$TASK" --scale "$SCALE" --name "$TASK" --workers 1
