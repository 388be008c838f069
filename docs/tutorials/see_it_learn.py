# %% [markdown]
# # See it learn
#
# A trained model comes with the package. Here it plays one task in a loop of ours: ten episodes
# from an empty context, without a gradient step. Then the same again, but each reward that it is
# shown is 0.
#
# This page is a script: `docs/tutorials/see_it_learn.py` in the repository. It takes about a
# minute on one CPU core.

# %%
import matplotlib.pyplot as plt

import vintix

TASK, SHOTS, SEED = "handle-pull-side", 10, 0


def play(rewards_shown=True):
    """Return the return of each episode of one stream."""
    env = vintix.make(TASK)
    agent = vintix.load("packaged")
    agent.reset(TASK, env.action_space)
    returns = [0.0]
    observation, _ = env.reset(seed=SEED)
    action = agent.act(observation)
    while True:
        observation, reward, terminated, truncated, _ = env.step(action)
        returns[-1] += reward
        if terminated or truncated:
            if len(returns) == SHOTS:
                return returns
            returns.append(0.0)
            observation, _ = env.reset()
        action = agent.act(observation, reward * rewards_shown, terminated, truncated)


# %% [markdown]
# `agent.act` is shown the observation, the last reward and whether the episode ended. What it did
# in earlier episodes it remembers as far as its context reaches; `agent.reset` forgets all of it.

# %%
curves = {"true rewards": play(), "rewards of 0": play(rewards_shown=False)}
for shown, returns in curves.items():
    print(f"{shown:13}", *(f"{value:6.0f}" for value in returns))

# %%
for shown, returns in curves.items():
    plt.plot(range(1, SHOTS + 1), returns, marker="o", label=shown)
plt.xlabel("episode")
plt.ylabel("return")
plt.title(f"{TASK}, one stream")
plt.legend()
plt.show()

# %% [markdown]
# A rise alone does not say that the model learns *from reward*. Trained on histories in which the
# return rises, it can also read off its own actions how far along it is. That is what the second
# curve is for: as far as it rises too, reward had no part in it.
#
# `vintix rollout --suite reward-use` makes this comparison for any checkpoint and any tasks, with
# shuffled and flipped rewards besides, and [Results, in small](../results.md) says which recipes
# make rewards matter, and by how much.
