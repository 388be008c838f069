#!/usr/bin/env bash
# Makes everything that docs/results.md tells: data, models and rollouts, on one CPU, in some hours.
#
#     bash runs/results.sh            # all; what is there already is found again
#     bash runs/results.sh claims     # one of: claims many goals report
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail

claims=(hopper half-cheetah pusher reacher door-open faucet-open button-press reach
  industrial-benchmark-25 industrial-benchmark-50 industrial-benchmark-75
  hand-push-block hand-door-open-outward hand-switch hand-scissors)
many=(button-press button-press-topdown coffee-button dial-turn door-close door-open drawer-close
  drawer-open faucet-close faucet-open handle-press handle-pull plate-slide reach window-close
  window-open)
goals=(reach reach-wall plate-slide push-back soccer)
told=(--option goal=demonstrator --option goal_reset=trajectory)

tasks() { printf -- '--task %s ' "$@"; }

train() { # dataset steps options...
  local dataset=$1 steps=$2
  shift 2
  vintix train --dataset "$dataset" --steps "$steps" --device cpu --set train.threads=1 -q "$@"
}

# Fifteen tasks of four domains: does the return rise, and with which of the three methods?
claims() {
  vintix demonstrators $(tasks "${claims[@]}") --name claims -q
  vintix distill $(tasks "${claims[@]}") --demonstrators claims --trajectories 4 --steps 20000 \
    --name claims -q
  vintix pack --histories claims --name claims -q
  for method in ad ad-no-reward ed; do train claims 1000 --method $method; done
  vintix rollout --checkpoint claims-tiny --checkpoint claims-tiny-ed \
    --checkpoint claims-tiny-ad-no-reward --baseline random --baseline demonstrator --seeds 5
  vintix rollout --checkpoint claims-tiny --suite reward-use --seeds 5
  vintix rollout --checkpoint claims-tiny --suite paper --seeds 2
}

# Sixteen tasks that share one observation: does the model need rewards to tell them apart?
many() {
  vintix demonstrators $(tasks "${many[@]}") --episodes 20 --name many -q
  vintix distill $(tasks "${many[@]}") --demonstrators many --trajectories 4 --steps 10000 \
    --name many -q
  vintix pack --histories many --name many -q
  train many 800
  train many 500 --set train.random_map=true
  vintix rollout --checkpoint many-tiny --suite reward-use --seeds 5
  vintix rollout --checkpoint many-tiny-map --suite reward-use --seeds 5
}

# Goals that nothing but the reward tells, kept for a whole trajectory.
goals() {
  vintix demonstrators $(tasks "${goals[@]}") "${told[@]}" --episodes 20 --name goals -q
  vintix distill $(tasks "${goals[@]}") "${told[@]}" --demonstrators goals --trajectories 40 \
    --steps 8000 --name goals -q
  vintix pack --histories goals --name goals -q
  for method in ad ad-no-reward; do train goals 800 --method $method; done
  vintix rollout --checkpoint goals-tiny --suite reward-use --seeds 10 --shots 30
  vintix rollout --checkpoint goals-tiny-ad-no-reward --seeds 10 --shots 30
}

# The two pictures of the page are models.png of each.
report() {
  vintix report claims-tiny claims-tiny-ed claims-tiny-ad-no-reward --output methods.html \
    --figures methods
  vintix report claims-tiny claims-tiny-{zero,shuffled,flipped}-rewards --output rewards.html \
    --figures rewards
}

for part in "${@:-claims many goals report}"; do
  for one in $part; do "$one"; done
done
