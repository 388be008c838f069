#!/usr/bin/env bash
# Makes the next generation of the checkpoint that comes with the package: all tasks of the paper,
# small, on one CPU core, in some two hours and a half. It goes on from the weights that the package
# has. Stop and start it as you like; artifacts go to $VINTIX_WORKSPACE, else ./artifacts.
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
[print("--task", task) for task, score in scores.items() if score["last3"] < 0.7]' <<<"$card" |
    grep -Fxf <(split "$1" train)
}
card=$(vintix artifacts show checkpoints/packaged --json)

noise=${NOISE:-per=episode,max=0.5,pure=0.1}
read -ra metaworld <<<"$(split metaworld train | xargs)"
read -ra held_out <<<"$(split metaworld validation | xargs)"

vintix demonstrators --name all -q

# Throws stand less noise. In Meta-World, whose tasks look alike, half of the episodes are decoys. The
# tasks that are held out are packed for their statistics only.
vintix distill --domain industrial-benchmark --schedule $noise --trajectories 20 --steps 1000 \
  --name all-industrial-benchmark -q
vintix distill --domain mujoco --schedule $noise --trajectories 16 --steps 5000 --name all-mujoco -q
vintix distill --domain bidexhands --schedule per=episode,max=0.3,pure=0.1 --trajectories 60 \
  --steps 1000 --name all-bidexhands -q
vintix distill "${metaworld[@]}" --decoys task --schedule $noise --trajectories 60 --steps 500 \
  --name all-metaworld -q
vintix distill "${held_out[@]}" --schedule $noise --trajectories 8 --steps 500 \
  --name all-metaworld-held-out -q
histories=(--histories all-metaworld-held-out)

# What the packaged model does by itself, with what the demonstrators would do; more of it where it
# is weak.
for part in mujoco:16:2500 bidexhands:16:1000 metaworld:12:1000 industrial-benchmark:4:1000; do
  IFS=: read -r domain trajectories steps <<<"$part"
  read -ra tasks <<<"$(split "$domain" train | xargs)"
  vintix distill "${tasks[@]}" --source model --checkpoint packaged \
    --trajectories "$trajectories" --steps "$steps" --name "played-$domain" -q
  histories+=(--histories "all-$domain" --histories "played-$domain")
  read -ra tasks <<<"$(weak "$domain" | xargs)"
  if [[ ${#tasks[@]} -gt 0 ]]; then
    vintix distill "${tasks[@]}" --source model --checkpoint packaged --seed 1 \
      --trajectories 16 --steps "$steps" --name "weak-$domain" -q
    histories+=(--histories "weak-$domain")
  fi
done
vintix pack "${histories[@]}" --name all-played --allow all -q

# Windows are drawn uniformly: what there is more of is trained on more.
vintix train --dataset all-played --init packaged --name all --method dpt --preset tiny \
  --context 500 --steps 6000 --learning-rate 8e-4 --set train.sampling=window \
  --set train.warmup_fraction=0.03 --set train.threads=1 --set train.precision=bfloat16 \
  --device cpu -q

play=(--split train --shots 10 --seeds 1 --seed 1 -q)
vintix rollout --checkpoint all --name all-float32 "${play[@]}"
python "$here/packaged_model.py" publish --checkpoint all --rollout all-float32
vintix rollout --checkpoint packaged --name all-float16 "${play[@]}"
python "$here/packaged_model.py" card --rollout all-float32 --rollout all-float16

# Everything that the paper reports, for the other table of docs/packaged-model.md.
vintix rollout --checkpoint packaged --suite paper --name packaged-paper --shots 10 --seeds 3 -q
python "$here/packaged_model.py" suite --rollout packaged-paper
