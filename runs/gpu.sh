#!/usr/bin/env bash
# What has never run on a GPU here, in eight minutes on one: parity of the attention backends, training
# steps of small, base and paper (tokens a second, share of the peak, memory), torch.compile, NCCL and
# FSDP2 with one process, rollouts with a cache, a run that is killed and resumed; then training, for
# the time that is left, where a dataset was brought along.
#
#     bash runs/gpu.sh                                  # one CUDA device and PyTorch
#     bash runs/gpu.sh --device cpu                     # the same parts, small
#     DATASET=artifacts TRAIN="--preset small --dataset all" bash runs/gpu.sh
#
# Needs of this project's packages torch, numpy, zarr, pydantic, typer, rich and pyyaml. On a machine
# without a network, bring those that it lacks as wheels: unpack them with
# `pip install --no-index --no-deps --target site *.whl` and set PYTHONPATH=site.
#
# Rows go to the terminal and to gpu.jsonl, in the present directory.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$root/runs/gpu.py" "$@"
