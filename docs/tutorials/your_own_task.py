# %% [markdown]
# # Your own task
#
# Any Gymnasium environment with a flat observation becomes a task of all five stages:
# `vintix.register_task` gives it a name in this process. Here it is two rooms with a lamp at an
# unknown place: a task each, told apart by what a step pays.
#
# This page is a script: `docs/tutorials/your_own_task.py` in the repository. It takes about a
# minute on one CPU core. In a script of yours, start the stages under `if __name__ ==
# "__main__":`, and leave out `workers=1`.

# %%
import tempfile

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import vintix

workspace = tempfile.mkdtemp()


class Slider(gymnasium.Env):
    """A place on a line; a step pays 1, less the distance to the lamp."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, lamp):
        self.lamp = lamp

    def reset(self, *, seed=None, options=None):
        """Begin anywhere."""
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.place, {}

    def step(self, action):
        """Move by a fifth of the action."""
        self.place = np.clip(self.place + np.float32(0.2) * action, -1, 1)
        return self.place, 1 - abs(float(self.place[0]) - self.lamp), False, False, {}


# %% [markdown]
# A task is an environment, an expert, and how much of it is recorded. The expert may see what the
# environment does not show. Without one, `vintix.demonstrators(source="train")` trains one.

# %%
LAMPS = {"slider-left": -0.7, "slider-right": 0.7}
for name, lamp in LAMPS.items():
    vintix.register_task(
        name,
        lambda lamp=lamp: Slider(lamp),
        demonstrator=lambda place, lamp=lamp: 5 * (lamp - place),
        group="slider",
        horizon=20,
        trajectories=20,
        trajectory_length=1000,
    )
tasks = tuple(LAMPS)

# %% [markdown]
# The stages, from expert to dataset. Noise in the expert's actions decays over a history, so that
# its returns rise.

# %%
vintix.demonstrators(tasks=tasks, workspace=workspace, workers=1)
vintix.distill(tasks=tasks, workspace=workspace, workers=1)
vintix.pack(tasks=tasks, workspace=workspace)

# %% [markdown]
# A small model, and ten episodes of two streams a task from an empty context.

# %%
vintix.train(
    tasks=tasks,
    preset="tiny",
    context=200,
    steps=150,
    batch_size=8,
    model={
        "width": 64,
        "feed_forward": 256,
        "action_embedding": 24,
        "observation_embedding": 28,
        "reward_embedding": 12,
    },
    workspace=workspace,
)
played = vintix.rollout(tasks=tasks, shots=10, seeds=2, workspace=workspace, workers=1)
for row in played.report["tasks"]:
    print(f"{row['name']:13}", *(f"{value:6.1f}" for value in row["returns_by_shot"]))
    plt.plot(range(1, 11), row["returns_by_shot"], marker="o", label=row["name"])
plt.xlabel("episode")
plt.ylabel("return")
plt.legend()
plt.show()

# %% [markdown]
# Where the return does not rise, look at the histories first: `vintix report histories` tells how
# much each looks like learning. To use the task from the command line, or to give it to others,
# make it a package: [Domains](../domains.md).
