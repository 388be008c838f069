# %% [markdown]
# # Your own method
#
# A training method is a class: which fields of a history it reads, what it predicts, how much
# each step counts. Here one is written, trained and played, in one file. Nothing is installed for
# it: `vintix.register` gives it a name in this process. A package gives it one by an entry point
# ([Contributing](../../CONTRIBUTING.md)).
#
# This page is a script: `docs/tutorials/your_own_method.py` in the repository. It takes a few
# minutes on one CPU core.

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import vintix
from pipelines.methods.base import Method

workspace = tempfile.mkdtemp()

# %% [markdown]
# The task is `point-ring`: a point is to find a goal on a circle that it is never shown; only
# rewards tell where it is. Its histories are those of demonstrators that know no more than
# rewards have told them (`goal=belief`), and each step has what they would have done without
# noise, `demonstrator_action`. That is the target of `--method dpt`. Ours has the same one, but
# the last steps of a window, which have the most to go by, count twice as much as the first.


# %%
class Later(Method):
    """The clean action; a step counts for more the longer the context before it."""

    title = "clean action, later steps first"
    target = "demonstrator_action"

    def loss_weights(self, rows):
        """From 2/3 at the first row to 4/3 at the last."""
        return np.linspace(2 / 3, 4 / 3, len(rows["reward"]), dtype=np.float32)


vintix.register("later", Later)

# %% [markdown]
# Data: one expert, 800 histories of eleven episodes, one dataset.

# %%
vintix.demonstrators(tasks=("point-ring",), episodes=100, workspace=workspace)
vintix.distill(
    tasks=("point-ring",),
    options={"goal": "belief"},
    trajectories=800,
    steps=220,
    workspace=workspace,
)
vintix.pack(workspace=workspace)

# %% [markdown]
# A small model, and its rollouts on goals that were not in the histories.

# %%
small = {
    "width": 64,
    "feed_forward": 256,
    "action_embedding": 24,
    "observation_embedding": 28,
    "reward_embedding": 12,
    "head": "bins",
}
for method in ("dpt", "later"):
    vintix.train(
        name=method,
        method=method,
        model=small,
        context=200,
        batch_size=16,
        learning_rate=2e-3,
        steps=250,
        workspace=workspace,
    )

# %%
for method in ("dpt", "later"):
    played = vintix.rollout(
        checkpoint=method,
        tasks=("point-ring",),
        options={"goals": "held-out"},
        shots=10,
        seeds=40,
        workspace=workspace,
    )
    scores = played.report["tasks"][0]["normalized_by_shot"]
    plt.plot(range(1, 11), scores, marker="o", label=method)
    print(f"{method:6}", *(f"{score:5.2f}" for score in scores))
plt.xlabel("episode")
plt.ylabel("score (0: random play, 1: sees the goal)")
plt.legend()
plt.show()

# %% [markdown]
# 250 updates are few, and one training run of each is no comparison of methods: it shows how one
# is made. [Results, in small](../results.md) has models that were trained for longer.
#
# The same call takes an action head (`pipelines.model.heads.base.Head`, then `model={"head":
# ...}`) or a backbone (`pipelines.model.backbones.base.Backbone`, `model={"backbone": ...}`).
