#!/usr/bin/env bash
# The packaged model goes on to tasks of your own, beside a model that begins from nothing: the
# numbers of docs/fine-tuning.md, some minutes of one CPU core.
#
#     bash runs/finetune.sh                 # both; what is there already is found again
#     bash runs/finetune.sh door-lock       # or point-mass, after pip install ./examples/point_mass
#     METHOD=ad bash runs/finetune.sh door-lock   # by another method than the packaged model's
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail
method=${METHOD:-dpt}

# Histories of tasks, packed, and for each number of updates a model that began from the packaged one
# and one that began from nothing, played: name updates task...
both() {
  local name=$1 tasks=("${@:3}") steps init
  vintix demonstrators "${tasks[@]}" --name "$name" -q
  vintix distill "${tasks[@]}" --demonstrators "$name" --trajectories 8 --steps 5000 --name "$name" -q
  # A task that the paper holds out is trained on only where that is allowed.
  vintix pack --histories "$name" --set pack.allow_validation=true --name "$name" -q
  for steps in $2; do
    for init in packaged nothing; do
      local from=(--init packaged)
      [[ $init == packaged ]] || from=(--preset tiny)
      vintix train --dataset "$name" "${from[@]}" --method "$method" --steps "$steps" \
        --name "$name-$init-$steps" --device cpu --set train.threads=1 -q
      vintix rollout --checkpoint "$name-$init-$steps" "${tasks[@]}" --shots 10 --seeds 10 \
        --name "$name-$init-$steps" -q
    done
  done
}

door-lock() {
  both door-lock "25 100" --task door-lock
  # As it comes.
  vintix rollout --checkpoint packaged --task door-lock --shots 10 --seeds 10 \
    --name door-lock-packaged-0 -q
}
point-mass() { both point-mass "25 100" --domain point-mass; }

for part in "${@:-door-lock point-mass}"; do
  for one_of in $part; do "$one_of"; done
done
