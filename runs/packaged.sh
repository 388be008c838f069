#!/usr/bin/env bash
# Makes the next generation of the checkpoint that comes with the package: all tasks of the paper,
# small, on one CPU core, in some three hours. It goes on from the weights that the package has. Stop
# and start it as you like; artifacts go to $VINTIX_WORKSPACE, else ./artifacts.
#
#     bash runs/packaged.sh
set -euo pipefail
here=$(dirname "$0")

split() { # domain split
  vintix tasks --domain "$1" --split "$2" --json |
    python -c 'import json, sys; [print("--task", task["name"]) for task in json.load(sys.stdin)["tasks"]]'
}
noise=${NOISE:-per=episode,max=0.5,pure=0.1}
read -ra metaworld <<<"$(split metaworld train | xargs)"
read -ra held_out <<<"$(split metaworld validation | xargs)"

vintix demonstrators --name all -q

# Throws stand less noise. In Meta-World, whose tasks look alike, half of the episodes are decoys. The
# tasks that are held out are packed for their statistics only.
vintix distill --domain industrial-benchmark --schedule $noise --trajectories 40 --steps 1000 \
  --name all-industrial-benchmark -q
vintix distill --domain mujoco --schedule $noise --trajectories 16 --steps 5000 --name all-mujoco -q
vintix distill --domain bidexhands --schedule per=episode,max=0.3,pure=0.1 --trajectories 60 \
  --steps 1000 --name all-bidexhands -q
vintix distill "${metaworld[@]}" --decoys task --schedule $noise --trajectories 80 --steps 500 \
  --name all-metaworld -q
vintix distill "${held_out[@]}" --schedule $noise --trajectories 8 --steps 500 \
  --name all-metaworld-held-out -q
histories=()
for part in industrial-benchmark mujoco metaworld metaworld-held-out bidexhands; do
  histories+=(--histories "all-$part")
done
vintix pack "${histories[@]}" --name all --allow all -q

recipe=(--method dpt --preset tiny --context 500 --set train.warmup_fraction=0.03 --set train.threads=1
  --set train.precision=bfloat16 --device cpu -q)
vintix train --dataset all --init packaged --name all-1 --steps 4800 --learning-rate 1e-3 \
  --set train.final_lr_fraction=0.3 --set train.validation_fraction=0.02 "${recipe[@]}"

# What it does by itself, with what the demonstrators would do.
for part in mujoco:2500 industrial-benchmark:1000 bidexhands:1000 metaworld:1000; do
  domain=${part%:*} steps=${part#*:}
  read -ra tasks <<<"$(split "$domain" train | xargs)"
  vintix distill "${tasks[@]}" --source model --checkpoint all-1 --trajectories 8 --steps "$steps" \
    --name "played-$domain" -q
  histories+=(--histories "played-$domain")
done
vintix pack "${histories[@]}" --name all-joined --allow all -q
vintix train --dataset all-joined --init all-1 --name all-2 --steps 4400 --learning-rate 6e-4 \
  "${recipe[@]}"

play=(--split train --shots 10 --seeds 1 --seed 1 -q)
vintix rollout --checkpoint all-2 --name all-float32 "${play[@]}"
python "$here/packaged_model.py" publish --checkpoint all-2 --rollout all-float32
vintix rollout --checkpoint packaged --name all-float16 "${play[@]}"
python "$here/packaged_model.py" card --rollout all-float32 --rollout all-float16
