#!/usr/bin/env bash
# What makes a model use reward: the runs behind "Improvement that is reinforcement" in
# docs/results.md, on one CPU.
#
#     bash runs/reinforcement.sh                # all tasks; what is there already is found again
#     bash runs/reinforcement.sh point-ring     # one of them, or reach, push-back
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail
context=${CONTEXT:-200}
shots=${SHOTS:-10}

small=(--set train.model.width=64 --set train.model.feed_forward=256
  --set train.model.action_embedding=24 --set train.model.observation_embedding=28
  --set train.model.reward_embedding=12)

# Histories of a task, packed: task knowledge steps
histories() {
  local name=$1-$2
  vintix demonstrators --task "$1" "${told[@]}" --option goal=demonstrator --name "$1" -q
  vintix distill --task "$1" --demonstrators "$1" "${told[@]}" --option "goal=$2" \
    --trajectories "$trajectories" --steps "$3" --name "$name" -q
  vintix pack --histories "$name" --name "$name" -q
}

# A model, and its rollouts on fresh goals: task knowledge method head [suffix]
model() {
  local name=$1-$2-$3-$4${5:-} recipe=(--method "$3" --set "train.model.head=$4")
  vintix train --dataset "$1-$2" "${recipe[@]}" --name "$name" --steps "$steps" \
    --context "$context" --batch-size 16 --learning-rate 2e-3 \
    "${pace[@]}" "${small[@]}" --device cpu --set train.threads=1 -q
  local suite=(--suite reward-use)
  [[ $3 == *no-reward ]] && suite=()
  vintix rollout --checkpoint "$name" --task "$1" "${fresh[@]}" --shots "$shots" \
    --seeds "$seeds" --name "$name" "${suite[@]}" -q
}

# The recipes on one task of hidden-goal: task head
recipes() {
  local seeds=100 trajectories=4000 steps=600 pace=(--set train.warmup_fraction=0.08)
  local task=$1 head=$2 told=() fresh=(--option goals=held-out)
  histories "$task" belief 200
  model "$task" belief dpt "$head"
  model "$task" belief dpt-no-reward "$head"
  histories "$task" demonstrator 400
  [[ $head == categorical ]] || model "$task" demonstrator ad mse
  model "$task" demonstrator ad "$head"
  model "$task" demonstrator ad-no-reward "$head"
  model "$task" demonstrator dpt "$head"
  histories "$task" decoy 200
  if [[ $head != categorical ]]; then
    model "$task" decoy dpt mse
    model "$task" decoy dpt-no-reward mse
  fi
  model "$task" decoy dpt "$head"
  steps=2400 pace=(--set train.warmup_fraction=0.03)
  model "$task" belief dpt "$head" -long
  vintix rollout --checkpoint "$task-belief-dpt-$head-long" --task "$task" "${fresh[@]}" \
    --option goal=demonstrator --shots "$shots" --seeds "$seeds" --name "$task-bounds" \
    --baseline blind --baseline belief -q
  model "$task" belief dpt-no-reward "$head" -long
  model "$task" demonstrator ad "$head" -long
}

# Decoys on a task of Meta-World whose goal is hidden: five episodes of 100 steps
simulated() {
  local context=500 shots=5 seeds=36 trajectories=300 steps=600 pace=(--set train.warmup_fraction=0.08)
  local told=(--option goal_reset=trajectory)
  local fresh=("${told[@]}" --option goal=demonstrator)
  histories "$1" decoy 500
  model "$1" decoy dpt mse
  model "$1" decoy dpt-no-reward mse
  histories "$1" demonstrator 1000
  model "$1" demonstrator ad mse
}

for task in "${@:-point-ring point-dense dark-room reach push-back}"; do
  for one in $task; do
    case $one in
      reach | push-back | soccer) simulated "$one" ;;
      dark-* | *bandit*) recipes "$one" categorical ;;
      *) recipes "$one" bins ;;
    esac
  done
done
