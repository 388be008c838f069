#!/usr/bin/env bash
# One element of an array job: one task, whatever machine it lands on. STAGE says what of it:
#
#   sbatch --array=0-44 --requeue --signal=B:TERM@60 array_job.sh                    # histories
#   STAGE=experts SOURCE=train DOMAIN=mujoco sbatch --array=0-10 ... array_job.sh    # trains experts
#   STAGE=rollouts CHECKPOINT=mine sbatch --array=0-44 ... array_job.sh              # plays a model
#
# The scheduler may stop and requeue it at any time: exit code 143 means "work kept, run me again".
# Every task gets an artifact of its own name, so that no two elements wait for each other. Histories
# (STAGE=histories, with the SOURCE that the experts had) are packed together afterwards:
#
#   vintix pack $(vintix artifacts ls --kind histories --json | python3 -c '
#   import json, sys
#   names = {row["name"] for row in json.load(sys.stdin)["artifacts"]}
#   print(" ".join("--histories " + name for name in sorted(names)))') --name all
#
# and rollouts of one checkpoint are one model to vintix report, which takes all of their names.
set -euo pipefail

export VINTIX_WORKSPACE="${WORKSPACE:-./artifacts}"
INDEX="${SLURM_ARRAY_TASK_ID:-${INDEX:-0}}"
DOMAIN="${DOMAIN:-metaworld}"
SCALE="${SCALE:-1.0}"
STAGE="${STAGE:-histories}"
SOURCE="${SOURCE:-builtin}"
CHECKPOINT="${CHECKPOINT:-packaged}"

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

expert() {
    run vintix demonstrators --source "$SOURCE" --task "$TASK" --name "$TASK" --workers 1
}

case "$STAGE" in
experts)
    expert
    ;;
histories)
    expert
    run vintix distill --task "$TASK" --demonstrators "$TASK" --scale "$SCALE" --name "$TASK" \
        --workers 1
    ;;
rollouts)
    run vintix rollout --task "$TASK" --checkpoint "$CHECKPOINT" --name "$CHECKPOINT-$TASK" \
        --workers 1
    ;;
*)
    echo "STAGE is $STAGE; expected: experts, histories or rollouts" >&2
    exit 2
    ;;
esac
