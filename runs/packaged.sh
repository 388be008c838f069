#!/usr/bin/env bash
# Makes the next generation of the checkpoint that comes with the package: all tasks of the paper,
# small, on two CPU cores, in two to three hours. It goes on from the weights that the package has.
# Stop and start it as you like; artifacts go to $VINTIX_WORKSPACE, else ./artifacts.
#
#     bash runs/packaged.sh
set -euo pipefail
here=$(dirname "$0")

split() { # domain split
  vintix tasks --domain "$1" --split "$2" --json |
    python -c 'import json, sys; [print("--task", task["name"]) for task in json.load(sys.stdin)["tasks"]]'
}
# Those of the tasks of a domain in which the packaged model is weak: domain
weak() {
  python -c 'import json, sys
scores = json.load(sys.stdin)["manifest"]["summary"]["scores"]
[print("--task", task) for task, score in scores.items() if score["last3"] < 0.8]' <<<"$card" |
    grep -Fxf <(split "$1" train)
}
card=$(vintix artifacts show checkpoints/packaged --json)

# PRECISION=bfloat16 is faster on some processors and seven times slower on others.
precision=${PRECISION:-float32}
noise=${NOISE:-per=episode,max=0.5,pure=0.1}
read -ra metaworld <<<"$(split metaworld train | xargs)"
read -ra held_out <<<"$(split metaworld validation | xargs)"

vintix demonstrators --name all -q

# The tasks that are held out are packed for their statistics only.
vintix distill "${held_out[@]}" --demonstrators all --schedule "$noise" --trajectories 8 --steps 500 \
  --name all-metaworld-held-out -q
histories=(--histories all-metaworld-held-out)

# What the packaged model does by itself, with what the demonstrators would do; more of it where it
# is weak: domain trajectories steps
played() {
  local domain=$1 common=(--source model --checkpoint packaged --demonstrators all --steps "$3")
  local tasks
  read -ra tasks <<<"$(split "$domain" train | xargs)"
  vintix distill "${tasks[@]}" "${common[@]}" --trajectories "$2" --name "played-$domain" -q
  histories+=(--histories "played-$domain")
  read -ra tasks <<<"$(weak "$domain" | xargs)"
  if [[ ${#tasks[@]} -gt 0 ]]; then
    vintix distill "${tasks[@]}" "${common[@]}" --seed 1 --trajectories 16 --name "weak-$domain" -q
    histories+=(--histories "weak-$domain")
  fi
}
played industrial-benchmark 4 1000
played bidexhands 16 1000
played mujoco 16 2500
played metaworld 12 1000

# Histories of the demonstrators: name trajectories steps options...
histories() {
  local name=$1 trajectories=$2 steps=$3
  shift 3
  vintix distill "$@" --trajectories "$trajectories" --steps "$steps" --name "$name" -q
  histories+=(--histories "$name")
}
noisy=(--demonstrators all --schedule "$noise")
histories all-industrial-benchmark 20 1000 --domain industrial-benchmark "${noisy[@]}"
histories all-mujoco 16 5000 --domain mujoco "${noisy[@]}"
# Throws stand less noise.
noisy=(--demonstrators all --schedule per=episode,max=0.3,pure=0.1)
histories all-bidexhands 60 1000 --domain bidexhands "${noisy[@]}"
read -ra tasks <<<"$(weak bidexhands | xargs)"
[[ ${#tasks[@]} -eq 0 ]] || histories more-bidexhands 60 1000 "${tasks[@]}" "${noisy[@]}" --seed 1
# In Meta-World, whose tasks look alike, half of the episodes are decoys.
noisy=(--demonstrators all --schedule "$noise" --decoys task)
histories all-metaworld 60 500 "${metaworld[@]}" "${noisy[@]}"
vintix pack "${histories[@]}" --name all-played --allow all -q

# Windows are drawn uniformly: what there is more of is trained on more.
vintix train --dataset all-played --init packaged --name all --method dpt --preset tiny \
  --context 500 --steps 6000 --learning-rate 8e-4 --set train.sampling=window \
  --set train.warmup_fraction=0.03 --set train.threads=1 --set "train.precision=$precision" \
  --device cpu --processes 2 -q

play=(--split train --shots 10 --seeds 1 --seed 1 -q)
vintix rollout --checkpoint all --name all-float32 "${play[@]}"
python "$here/packaged_model.py" publish --checkpoint all --rollout all-float32
vintix rollout --checkpoint packaged --name all-float16 "${play[@]}"
python "$here/packaged_model.py" card --rollout all-float32 --rollout all-float16

# Everything that the paper reports, for the other table of docs/packaged-model.md.
vintix rollout --checkpoint packaged --suite paper --name packaged-paper --shots 10 --seeds 3 -q
python "$here/packaged_model.py" suite --rollout packaged-paper
