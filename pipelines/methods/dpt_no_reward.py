"""DPT without rewards: what its model owes to them is what this one lacks (as Appendix C.2)."""

from __future__ import annotations

from pipelines.methods.dpt import DPT


class DPTNoReward(DPT):
    """The model is shown rewards of 0, in training and when it plays."""

    title = "DPT without rewards"
    masks_rewards = True
