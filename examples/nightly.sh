#!/usr/bin/env bash
# Nightly: collect, pack, train and evaluate one domain, and fail loudly.
#
#   WORKSPACE=/data/vintix DOMAIN=metaworld SCALE=0.02 STEPS=2000 ./nightly.sh
#
# Each line continues what an earlier night left unfinished, or says that it is up to date.
set -euo pipefail

export VINTIX_WORKSPACE="${WORKSPACE:-./artifacts}"
DOMAIN="${DOMAIN:-metaworld}"
SCALE="${SCALE:-0.02}"
STEPS="${STEPS:-2000}"
PRESET="${PRESET:-tiny}"
SHOTS="${SHOTS:-20}"

vintix demonstrators --domain "$DOMAIN" --name nightly
vintix distill --domain "$DOMAIN" --demonstrators nightly --scale "$SCALE" --name nightly
vintix pack --histories nightly --name nightly
vintix train --dataset nightly --preset "$PRESET" --steps "$STEPS" --name nightly
vintix rollout --checkpoint nightly --domain "$DOMAIN" --shots "$SHOTS" --name nightly \
    --plot "$VINTIX_WORKSPACE/nightly.png" --json > "$VINTIX_WORKSPACE/nightly.json"
vintix artifacts verify rollouts/nightly
vintix artifacts gc --keep 3
