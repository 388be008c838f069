"""Histories that a trained model plays, with the demonstrator's answer beside each of its actions.

A model that acts by itself comes to states, and sees contexts, that no noise-distilled history has:
its own mistakes, and what it does about them. Here it plays as in a rollout, from an empty context,
and what the task's demonstrator would do is recorded as `demonstrator_action`, the target of
`--method dpt`. Packed with the histories before, it is a round of DAgger (Ross, Gordon and Bagnell
2011, arXiv:1011.0686), with a learner that has a context.

Shapes: B trajectories of a job, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.distill.demonstrators import Beside
from pipelines.errors import ConfigError
from pipelines.histories.layout import MODEL
from pipelines.rng import derive_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.job import Job
    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.model.saved import SavedModel
    from pipelines.policies.base import Policy
    from pipelines.rollout.acting import Agent
    from pipelines.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Checkpoint:
    """The model that plays a distillation.

    Attributes:
        artifact: The checkpoint.
        saved: It, loaded.
    """

    artifact: Artifact
    saved: SavedModel

    @classmethod
    def of(cls, config: DistillConfig, workspace: Workspace) -> Checkpoint | None:
        """Return the checkpoint of a configuration; None where no model plays.

        Raises:
            ArtifactMissingError: There is none of the name.
            ArtifactCorruptError: It is damaged.
        """
        if config.source != MODEL:
            return None
        from pipelines.model.saved import load_model

        artifact = workspace.find("checkpoints", config.checkpoint)
        return cls(artifact, load_model(artifact))

    def check(self, task: TaskSpec, options: Mapping[str, Any]) -> None:
        """Refuse a task that it cannot play.

        Raises:
            ConfigError: The checkpoint has no statistics or no group for it.
            UsageError: An option is unknown.
        """
        from pipelines.rollout.acting import Agent

        try:
            Agent(self.saved).reset(task.name, options=options)
        except ConfigError as error:
            # Histories of the task would not help: it is the model that has to be another.
            raise ConfigError(
                error.message,
                where=f"checkpoint {self.artifact.reference}, {error.where}",
                expected=error.expected,
                found=error.found,
                fix="name a checkpoint that was trained on tasks of this group (--checkpoint), or "
                "leave the task out",
            ) from error

    def rate(self, environment: float, streams: int) -> float:
        """Return the steps a second of one core, over the streams that act together.

        Args:
            environment: Those of the environment alone.
            streams: How many act together.
        """
        from pipelines.playing.model import Memory, pass_seconds

        model = self.saved.model
        seconds = pass_seconds(model, streams, model.config.context / 2, Memory())
        return 1 / (1 / environment + seconds / streams)


class Models(Beside):
    """A model acts, each copy with a context of its own; the demonstrator is recorded beside it.

    Args:
        job: The job, of one shard.
        environment: Its copies.
        policy: The demonstrator.
        agent: The model.
    """

    def __init__(
        self, job: Job, environment: BatchEnvironment, policy: Policy, agent: Agent
    ) -> None:
        super().__init__(environment, policy)
        self._agent = agent
        self._seen: tuple[NDArray[Any], ...] = ()
        agent.reset(
            job.task.name,
            environment.actions.space,
            streams=len(job.trajectories),
            seed=derive_seed(job.seed, "distill", job.task.name, job.trajectories[0], "model"),
            options=job.options,
        )

    def act(self, observation_BO: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what the model does, and what the demonstrator would."""
        demonstrated_BA = self.demonstrate(observation_BO)
        return self._agent.act(observation_BO, *self._seen), demonstrated_BA

    def learn(self, after: StepBatch) -> None:
        """Keep what the model is shown of a step beside the next observation."""
        kept = after.reward_B, after.terminated_B, after.truncated_B
        # The environment may reuse its arrays.
        self._seen = tuple(each.copy() for each in kept)
