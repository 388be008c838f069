#!/usr/bin/env bash
# Decoys of tasks on Meta-World's ML45, 45 tasks for training and five held out: what docs/results.md
# tells of them, on one CPU core.
#
#     bash runs/ml45.sh            # all; what is there already is found again
#     bash runs/ml45.sh decoy      # one of: others decoy plain ad decoy-no-reward
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail

names() { python -c 'import json, sys; [print(task["name"]) for task in json.load(sys.stdin)["tasks"]]'; }
training=() held_out=()
for name in $(vintix tasks --domain metaworld --split train --json | names); do
  training+=(--task "$name")
done
for name in $(vintix tasks --domain metaworld --split validation --json | names); do
  held_out+=(--task "$name")
done
noise=per=episode,max=0.5,pure=0.1

# Five episodes a history, which the context holds; as many steps of data for each model.
histories() { # name options...
  local name=ml45-$1
  shift
  vintix distill "${training[@]}" --demonstrators metaworld --name "$name" --workers 1 -q "$@"
  vintix pack --histories "$name" --name "$name" --allow all -q
}

# A model, and its rollouts on the tasks of training and on those held out: name dataset method
model() {
  local name=ml45-$1 recipe=(--method "$3") suite=(--suite reward-use)
  [[ $3 == *no-reward ]] && suite=()
  vintix train --dataset "ml45-$2" "${recipe[@]}" --context 500 --steps 500 \
    --batch-size 8 --device cpu --set train.threads=1 --name "$name" -q
  vintix rollout --checkpoint "$name" --domain metaworld --split train --shots 5 --seeds 2 \
    --name "$name" "${suite[@]}" -q
  vintix rollout --checkpoint "$name" --domain metaworld --split validation --stats group \
    --shots 5 --seeds 10 --name "$name-held-out" "${suite[@]}" -q
}

one() {
  case $1 in
    others)
      vintix distill "${held_out[@]}" --demonstrators metaworld --decoys task --decoy-tasks 9 \
        --schedule per=episode,max=0 --trajectories 10 --steps 500 --name ml45-others --workers 1 -q
      ;;
    decoy)
      histories decoy --decoys task --trajectories 10 --steps 500
      model decoy decoy dpt
      ;;
    decoy-no-reward)
      histories decoy --decoys task --trajectories 10 --steps 500
      model decoy-no-reward decoy dpt-no-reward
      ;;
    plain)
      histories plain --schedule "$noise" --trajectories 10 --steps 500
      model plain plain dpt
      ;;
    ad)
      histories ad --trajectories 2 --steps 2500
      model ad ad ad
      ;;
  esac
}

vintix demonstrators --domain metaworld --name metaworld --episodes 20 --workers 1 -q
for each in "${@:-others decoy plain ad decoy-no-reward}"; do
  for name in $each; do one "$name"; done
done
