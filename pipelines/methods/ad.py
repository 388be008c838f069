"""Algorithm Distillation (Laskin et al., 2022), the paper's method: imitate whole histories."""

from __future__ import annotations

from pipelines.methods.base import Method, Rules
from pipelines.methods.release import ReleaseRules


class AD(Method):
    """Windows of whole trajectories; the released code's rules can be asked for."""

    title = "AD"
    rules = {"corrected": Rules(), "release": ReleaseRules()}  # noqa: RUF012
