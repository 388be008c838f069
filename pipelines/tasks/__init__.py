"""The task catalogue: the paper's 102 tasks and their variations as data, and its registry."""

from pipelines.tasks.registry import Catalogue, catalogue
from pipelines.tasks.spec import Schedule, ScoreReference, TaskSpec

__all__ = [
    "Catalogue",
    "Schedule",
    "ScoreReference",
    "TaskSpec",
    "catalogue",
]
