#!/usr/bin/env bash
# What makes a model use reward: the runs behind "Improvement that is reinforcement" in
# docs/results.md, on one CPU.
#
#     bash runs/reinforcement.sh                # all tasks; what is there already is found again
#     bash runs/reinforcement.sh point-ring     # one of them
#     PARTS=long ONLY=belief-dpt bash runs/reinforcement.sh dark-room
#
# PARTS are some of: short long played seeds, and longer, which has to be named; ONLY is the histories
# and the method of the models to train.
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail
parts=" ${PARTS:-short long played seeds} "
shots=${SHOTS:-10}
context=${CONTEXT:-200}
init=()

small=(--set train.model.width=64 --set train.model.feed_forward=256
  --set train.model.action_embedding=24 --set train.model.observation_embedding=28
  --set train.model.reward_embedding=12)

# Histories of a task, packed: task knowledge steps
histories() {
  local name=$1-$2 only=${ONLY:-*}
  [[ $2 == ${only%%-*} ]] || return 0
  vintix demonstrators --task "$1" "${told[@]}" --option goal=demonstrator --name "$1" -q
  vintix distill --task "$1" --demonstrators "$1" "${told[@]}" --option "goal=$2" \
    --trajectories "$trajectories" --steps "$3" --name "$name" -q
  vintix pack --histories "$name" --name "$name" -q
}

# A model, and its rollouts on fresh goals: task knowledge method head [suffix] [seed]
model() {
  [[ $2-$3 == ${ONLY:-*} ]] || return 0
  local train_seed=${6:-0} name=$1-$2-$3-$4${5:-} recipe=(--method "$3" --set "train.model.head=$4")
  vintix train --dataset "$1-$2" "${recipe[@]}" --name "$name" --steps "$steps" \
    --context "$context" --batch-size 16 --learning-rate 2e-3 --seed "$train_seed" \
    "${pace[@]}" "${small[@]}" "${init[@]}" --device cpu --set train.threads=1 -q
  local suite=(--suite reward-use)
  [[ $3 == *no-reward ]] && suite=()
  vintix rollout --checkpoint "$name" --task "$1" "${fresh[@]}" --shots "$shots" \
    --seeds "$seeds" --name "$name" "${suite[@]}" -q
}

# What no learning reaches and, where the domain can say it, what an honest student can:
# task checkpoint
bounds() {
  [[ -z ${ONLY:-} ]] || return 0
  vintix rollout --task "$1" "${fresh[@]}" --option goal=demonstrator --shots "$shots" \
    --seeds "$seeds" --name "$1-bounds" "${baselines[@]}" --checkpoint "$2" -q
}

wanted() { [[ $parts == *" $1 "* ]]; }
short() { steps=600 pace=(--set train.warmup_fraction=0.08); }
long() { steps=2400 pace=(--set train.warmup_fraction=0.03); }
longer() { steps=7200 pace=(--set train.warmup_fraction=0.01); }

# The recipes on one task of hidden-goal, of which a context holds ten episodes: task head
recipes() {
  local seeds=100 trajectories=4000 steps pace told=() fresh=(--option goals=held-out)
  local baselines=(--baseline blind --baseline belief)
  local task=$1 head=$2 seed
  histories "$task" belief "$context"
  histories "$task" demonstrator $((2 * context))
  if wanted short; then
    short
    model "$task" belief dpt "$head"
    model "$task" belief dpt-no-reward "$head"
    [[ $head == categorical ]] || model "$task" demonstrator ad mse
    model "$task" demonstrator ad "$head"
    model "$task" demonstrator ad-no-reward "$head"
    model "$task" demonstrator dpt "$head"
    histories "$task" decoy "$context"
    if [[ $head != categorical ]]; then
      model "$task" decoy dpt mse
      model "$task" decoy dpt-no-reward mse
    fi
    model "$task" decoy dpt "$head"
  fi
  if wanted long; then
    long
    model "$task" belief dpt "$head" -long
    bounds "$task" "$task-belief-dpt-$head-long"
    model "$task" belief dpt-no-reward "$head" -long
    model "$task" demonstrator ad "$head" -long
  fi
  if wanted longer; then
    longer
    model "$task" belief dpt "$head" -longer
  fi
  if wanted seeds; then
    long
    for seed in 1 2; do
      model "$task" belief dpt "$head" "-long-seed-$seed" "$seed"
      model "$task" demonstrator ad "$head" "-long-seed-$seed" "$seed"
    done
  fi
}

# Decoys on a task of Meta-World whose goal is hidden: five episodes of 100 steps
simulated() {
  local context=500 shots=5 seeds=36 trajectories=300 steps pace baselines=(--baseline blind)
  local told=(--option goal_reset=trajectory)
  local fresh=("${told[@]}" --option goal=demonstrator)
  histories "$1" decoy 500
  histories "$1" demonstrator 1000
  if wanted short; then
    short
    model "$1" decoy dpt mse
    model "$1" decoy dpt-no-reward mse
    model "$1" demonstrator ad mse
  fi
  if wanted long; then
    long
    model "$1" decoy dpt mse -long
    bounds "$1" "$1-decoy-dpt-mse-long"
    model "$1" decoy dpt-no-reward mse -long
    model "$1" demonstrator ad mse -long
  fi
  if wanted played; then
    # The long model plays, and is trained on with what the demonstrator would have done.
    local start=$1-decoy-dpt-mse-long
    local init=(--init "$start")
    vintix distill --source model --checkpoint "$start" --task "$1" --demonstrators "$1" \
      "${fresh[@]}" --trajectories "$trajectories" --steps 500 --name "$1-played" -q
    vintix pack --histories "$1-decoy" --histories "$1-played" --name "$1-played" -q
    short
    model "$1" played dpt mse
  fi
}

all="point-ring point-dense dark-room dark-key-to-door bernoulli-bandit-20 reacher-hidden"
for task in "${@:-$all reach push-back soccer}"; do
  for one in $task; do
    case $one in
      reach | push-back | soccer) simulated "$one" ;;
      dark-key-to-door) context=500 recipes "$one" categorical ;;
      reacher-hidden) context=500 recipes "$one" bins ;;
      dark-* | *bandit*) recipes "$one" categorical ;;
      *) recipes "$one" bins ;;
    esac
  done
done
