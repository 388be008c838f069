#!/usr/bin/env bash
# Makes the checkpoint that comes with the package: all tasks of the paper, small, on one CPU core, in
# some hours. Stop and start it as you like; artifacts go to $VINTIX_WORKSPACE, else ./artifacts.
#
#     bash runs/packaged.sh
set -euo pipefail
here=$(dirname "$0")

vintix demonstrators --name all -q
vintix distill --name all --scale 0.01 -q
vintix pack --name all -q
vintix train --preset tiny --steps 4000 --set train.threads=1 --device cpu --dataset all -q
play=(--split train --shots 10 --seeds 1 --seed 1 -q)
vintix rollout --checkpoint all-tiny --name all-float32 "${play[@]}"
python "$here/packaged_model.py" publish --checkpoint all-tiny --rollout all-float32
vintix rollout --checkpoint packaged --name all-float16 "${play[@]}"
python "$here/packaged_model.py" card --rollout all-float32 --rollout all-float16
