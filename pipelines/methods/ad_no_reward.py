"""Algorithm Distillation without rewards (Appendix C.2): the model is shown rewards of 0."""

from __future__ import annotations

from pipelines.methods.ad import AD


class ADNoReward(AD):
    """As `AD`, with rewards of 0 in training and at rollout."""

    title = "AD without rewards"
    masks_rewards = True
