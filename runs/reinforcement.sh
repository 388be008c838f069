#!/usr/bin/env bash
# What makes a model use reward: the runs behind "Improvement that is reinforcement" in
# docs/results.md, on one CPU.
#
#     bash runs/reinforcement.sh                # all tasks; what is there already is found again
#     bash runs/reinforcement.sh point-ring     # one of them
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
# SEEDS=100 STEPS=600 TRAJECTORIES=4000 change the streams a score is of, the optimizer steps of a
# model and the histories of a task.
set -euo pipefail
seeds=${SEEDS:-100} steps=${STEPS:-600} trajectories=${TRAJECTORIES:-4000}

small=(--set train.model.width=64 --set train.model.feed_forward=256
  --set train.model.action_embedding=24 --set train.model.observation_embedding=28
  --set train.model.reward_embedding=12)

# Histories of a task, packed: task knowledge steps options...
histories() {
  local name=$1-$2
  vintix demonstrators --task "$1" "${told[@]}" --name "$1" -q
  vintix distill --task "$1" --demonstrators "$1" --option "goal=$2" \
    --trajectories "$trajectories" --steps "$3" --name "$name" -q "${@:4}"
  vintix pack --histories "$name" --name "$name" -q
}

# A model, and its rollouts on held-out goals: task knowledge method head options...
model() {
  local name=$1-$2-$3-$4
  vintix train --dataset "$1-$2" --method "$3" --set "train.model.head=$4" --name "$name" \
    --steps "$steps" --context "$context" --batch-size 16 --learning-rate 2e-3 \
    --set train.warmup_fraction=0.08 "${small[@]}" --device cpu --set train.threads=1 -q "${@:5}"
  local suite=(--suite reward-use)
  [[ $3 == *no-reward ]] && suite=()
  vintix rollout --checkpoint "$name" --task "$1" "${fresh[@]}" --shots "$shots" \
    --seeds "$seeds" --name "$name" "${suite[@]}" -q
}

# The recipes on one task: task head steps-of-plain-histories
recipes() {
  local task=$1 head=$2
  histories "$task" belief "$context"
  model "$task" belief dpt "$head"
  model "$task" belief dpt-no-reward "$head"
  histories "$task" demonstrator $((2 * context))
  [[ $head == categorical ]] || model "$task" demonstrator ad mse
  model "$task" demonstrator ad "$head"
  model "$task" demonstrator ad-no-reward "$head"
  histories "$task" decoy "$context"
  [[ $head == categorical ]] || model "$task" decoy dpt mse
  model "$task" decoy dpt "$head"
  model "$task" demonstrator dpt "$head"
  [[ $head == categorical ]] || model "$task" belief dpt mse
}

context=200 shots=10 told=() fresh=(--option goals=held-out)
for task in "${@:-point-ring point-dense dark-room}"; do
  for one in $task; do
    case $one in
      dark-room | dark-key-to-door | *bandit*) recipes "$one" categorical ;;
      *) recipes "$one" bins ;;
    esac
  done
done
