#!/usr/bin/env bash
# The systems of docs/systems.md: trains and plays each on one CPU.
#
#     bash runs/systems.sh                 # all; what is there already is found again
#     bash runs/systems.sh headless-ad     # one of: ad ad-eps headless-ad s5 dpt
#
# Artifacts go to $VINTIX_WORKSPACE, else ./artifacts. Stop and start it as you like.
set -euo pipefail
here=$(dirname "$0")

one=(--device cpu --set train.threads=1 -q)
small=(--set train.model.width=64 --set train.model.feed_forward=256
  --set train.model.action_embedding=24 --set train.model.observation_embedding=28
  --set train.model.reward_embedding=12)
pace=(--context 200 --batch-size 16 --learning-rate 2e-3 --set train.warmup_fraction=0.08)

# Algorithm Distillation: the histories of 2,000 tabular Q-learners, each with a goal of 65
ad() {
  vintix demonstrators --task dark-room --option goal=demonstrator --name dark-room -q
  vintix distill --task dark-room --source learning-history --demonstrators dark-room \
    --trajectories 2000 --steps 600 --set distill.train.algorithm=q-learning \
    --set distill.train.hyperparameters.learning_rate=1 \
    --set distill.train.hyperparameters.discount=0.8 --name dark-room-learner -q
  vintix pack --histories dark-room-learner --name dark-room-learner -q
  vintix train --dataset dark-room-learner --method ad --name dark-room-learner-ad --steps 300 \
    "${pace[@]}" "${small[@]}" "${one[@]}"
  vintix rollout --checkpoint dark-room-learner-ad --task dark-room --option goals=held-out \
    --shots 30 --seeds 100 --suite reward-use --name dark-room-learner-ad
}

# AD-eps: random actions in place of a demonstrator's, more and more seldom
ad-eps() { PARTS=long ONLY=demonstrator-ad bash "$here/reinforcement.sh" dark-room; }

# Headless-AD: the histories of Thompson sampling on 5 and 20 arms, played on 50 as well
headless-ad() {
  local arms=(--task bernoulli-bandit-5 --task bernoulli-bandit-20)
  vintix demonstrators "${arms[@]}" --name bandits -q
  vintix distill "${arms[@]}" --source learning-history --demonstrators bandits \
    --trajectories 2000 --steps 300 --set distill.train.algorithm=thompson \
    --name bandits-thompson -q
  vintix pack --histories bandits-thompson --allow bernoulli-bandit-5 --name bandits-thompson -q
  vintix train --dataset bandits-thompson --method ad --set train.model.head=headless \
    --set train.model.action_embedding=80 --set train.model.observation_embedding=8 \
    --set train.model.reward_embedding=40 --name headless --steps 300 "${pace[@]}" "${one[@]}"
  vintix rollout --checkpoint headless "${arms[@]}" --task bernoulli-bandit-50 --stats group \
    --option goals=held-out --shots 10 --seeds 100 --baseline random --baseline demonstrator \
    --baseline thompson --baseline ucb --name headless
}

# S5 beside the transformer: the quickstart's tasks, as they are and through random maps
s5() {
  local tasks=(--config pipelines/quickstart/quickstart.yaml)
  vintix demonstrators "${tasks[@]}" --name quickstart -q
  vintix distill "${tasks[@]}" --demonstrators quickstart --name quickstart -q
  vintix pack "${tasks[@]}" --histories quickstart --name quickstart -q
  for map in "" -map; do
    for backbone in transformer s5; do
      local model=(--set "train.model.backbone=$backbone")
      [[ -z $map ]] || model+=(--set train.random_map=true)
      vintix train "${tasks[@]}" --dataset quickstart "${model[@]}" \
        --name "quickstart-$backbone$map" "${one[@]}"
      vintix rollout "${tasks[@]}" --checkpoint "quickstart-$backbone$map" \
        --name "quickstart-$backbone$map"
    done
  done
}

# A Decision-Pretrained Transformer: the clean action of a demonstrator that believes what rewards
# have told, with a head that is sampled
dpt() { PARTS=long ONLY=belief-dpt bash "$here/reinforcement.sh" dark-room; }

for part in "${@:-ad ad-eps headless-ad s5 dpt}"; do
  for system in $part; do "$system"; done
done
