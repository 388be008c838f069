"""The model's configuration: every choice that shapes its parameters or its arithmetic.

Field names are ours; :mod:`pipelines.model.official` translates the names of the released code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from pipelines.actions import ActionSpec, Box, from_json
from pipelines.errors import ConfigError, unknown
from pipelines.model.backbones import BACKBONES
from pipelines.model.backbones import DEFAULT as PAPERS_BACKBONE
from pipelines.model.heads import DEFAULT as PAPERS_HEAD
from pipelines.model.heads import DEFAULTS, HEADS
from pipelines.options import choices_of
from pipelines.plugins import Kind, OneOf

if TYPE_CHECKING:
    from pipelines.model.heads.base import Embedding

_NOT_CHOSEN = ("groups", "context")

#: Rows of the within-episode position table (the released code's `max_emb_episode_length`).
EPISODE_POSITIONS = 10_000


class GroupDims(BaseModel):
    """Dimensions of one group: tasks that share observation and action channels (section 2.3.1).

    Attributes:
        observation_dim: Channels of an observation, at least 1.
        action_dim: Channels of an action as the model sees it, at least 1.
        action_bounds: Lower and upper bounds of the actions to predict, for heads that need them;
            else None, and left out of what is stored.
        action_kind: What the actions are where they are no box, as `ActionSpec.as_json` gives it;
            else None, and left out likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation_dim: int = Field(ge=1)
    action_dim: int = Field(ge=1)
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    action_kind: dict[str, Any] | None = None

    @classmethod
    def of(cls, observation_dim: int, actions: ActionSpec) -> Self:
        """Return the dimensions of a group with these actions, without their bounds."""
        kind = None if isinstance(actions, Box) else actions.as_json()
        return cls(observation_dim=observation_dim, action_dim=actions.width, action_kind=kind)

    @property
    def actions(self) -> ActionSpec:
        """What the actions are."""
        if self.action_kind is not None:
            return from_json(self.action_kind)
        if self.action_bounds is None:
            return Box(self.action_dim)
        import numpy as np

        low_A, high_A = (np.array(bound, np.float32) for bound in self.action_bounds)
        return Box(self.action_dim, low_A, high_A)

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.actions.width != self.action_dim:
            raise ValueError(f"{self.actions} are {self.actions.width} channels")
        if self.action_bounds is not None:
            low, high = self.action_bounds
            if not len(low) == len(high) == self.action_dim:
                raise ValueError(f"the bounds of {self.action_dim} actions have as many numbers")
            if not all(one <= other for one, other in zip(low, high, strict=True)):
                raise ValueError("a lower bound of actions is above the upper one")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_later_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        later = ("action_bounds", "action_kind")
        return {name: one for name, one in values.items() if one is not None or name not in later}


class ModelConfig(BaseModel):
    """Architecture of a Vintix model (section 2.3.1 and Table 2 of the paper).

    A value that is out of range or does not fit the others raises
    :class:`~pipelines.errors.ConfigError`, not pydantic's own error.

    Attributes:
        groups: Dimensions of each group by name; the order is the order of the parameters. A name
            is not empty and has no dot, since it becomes part of a parameter's name.
        heads: Attention heads; must divide `width`.
        width: Channels of a token; the sum of the three embeddings.
        feed_forward: Hidden channels of a block's MLP.
        action_embedding: Channels of a token that hold the previous action.
        observation_embedding: Channels of a token that hold the observation.
        reward_embedding: Channels of a token that hold the previous reward.
        norm: Normalisation of the residual stream; the normalisation of queries and keys is
            LayerNorm whatever this says, as in the released code.
        mlp: `gpt_neox` (Linear, exact GELU, Linear) or `llama` (gated SiLU).
        qk_norm: LayerNorm on each head's queries and keys.
        bias: Biases in the linear layers of the blocks; encoders, heads and norms always have
            theirs.
        parallel_residual: Attention and MLP read the same residual stream and are added together.
        shared_attention_norm: One norm for both; needs `parallel_residual`.
        normalize_actions: Previous actions are normalised per task before the encoder and
            predictions are un-normalised (`norm_acs` of the released code).
        normalize_observations: Observations are to be normalised per task before the model.
        inner_episode_position: Adds a learned embedding of the step within the episode.
        attention_dropout: Dropout probability on attention weights, in [0, 1).
        residual_dropout: Dropout probability on the attention's output, in [0, 1).
        context: Training sequence length in steps, and the size of the cache at inference.
        head: Name of the action head of the groups whose actions it fits; left out of what is
            stored where it is `mse`. The other groups have the head that is their kind's default.
        backbone: Name of the backbone; left out likewise where it is `transformer`.
        head_options: Options of the head, complete; left out where it has none.
        backbone_options: Options of the backbone, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[str, GroupDims] = Field(min_length=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=1)
    feed_forward: int = Field(ge=1)
    action_embedding: int = Field(ge=1)
    observation_embedding: int = Field(ge=1)
    reward_embedding: int = Field(ge=1)
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    mlp: Literal["gpt_neox", "llama"] = "gpt_neox"
    qk_norm: bool = True
    bias: bool = True
    parallel_residual: bool = False
    shared_attention_norm: bool = False
    normalize_actions: bool = False
    normalize_observations: bool = True
    inner_episode_position: bool = False
    attention_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    residual_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    context: int = Field(ge=1)
    head: Annotated[str, OneOf(HEADS)] = PAPERS_HEAD
    backbone: Annotated[str, OneOf(BACKBONES)] = PAPERS_BACKBONE
    head_options: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    backbone_options: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @field_validator("head_options", "backbone_options")
    @classmethod
    def _complete_options(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        part = str(info.field_name).removesuffix("_options")
        kind: Kind[Any] = HEADS if part == "head" else BACKBONES
        # A name that nothing answers to is told of by its own field.
        name = info.data.get(part)
        return given if name is None else kind.options(name, given)

    @model_serializer(mode="wrap")
    def _leave_out_later_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # There were artifacts before there were these.
        values: dict[str, Any] = handler(self)
        later = {
            "head": PAPERS_HEAD,
            "backbone": PAPERS_BACKBONE,
            "head_options": {},
            "backbone_options": {},
        }
        return {name: one for name, one in values.items() if later.get(name, ...) != one}

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    def head_of(self, group: str) -> tuple[str, dict[str, Any]]:
        """Return name and options of a group's action head."""
        kind = self.groups[group].actions.kind
        if kind in HEADS.find(self.head).kinds or kind not in DEFAULTS:
            return self.head, self.head_options
        return DEFAULTS[kind], HEADS.options(DEFAULTS[kind], {})

    def embedding_of(self, group: str) -> Embedding | None:
        """Return how streams of a group embed their actions; None where they have numbers."""
        if self.groups[group].actions.continuous:
            return None
        name, options = self.head_of(group)
        return HEADS.find(name).embedding(**options)

    def fits(self, group: str, observation_dim: int, actions: ActionSpec) -> bool:
        """Tell whether tasks of such observations and actions can go through a group.

        Where actions have embeddings there may be any number of them, up to the embedding's size.
        """
        dims = self.groups.get(group)
        if dims is None or dims.observation_dim != observation_dim:
            return False
        embedding = self.embedding_of(group)
        if embedding is None or actions.kind != dims.actions.kind:
            return dims.actions == actions
        return actions.width <= embedding.channels

    def describe(self, group: str) -> str:
        """Return in words what tasks of a group are."""
        dims, embedding = self.groups[group], self.embedding_of(group)
        actions = dims.actions if embedding is None else f"up to {embedding.channels} actions"
        return f"{dims.observation_dim} observation dims, {actions}"

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            known: tuple[str, ...] = ()
            wanted = str(first["input"])
            if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
                message, wanted = "unknown setting", place
                # What the data and the run decide is no override.
                known = tuple(name for name in cls.model_fields if name not in _NOT_CHOSEN)
            elif first["type"] == "literal_error":
                known = choices_of(cls.model_fields[place])
            raise unknown(
                f"the model configuration is not valid: {message}",
                wanted,
                known,
                kind=ConfigError,
                where=f"model.{place}" if place else "model",
                expected=", ".join(known) or None,
                found=repr(first["input"])[:80] if place else None,
                fix="correct the value, or start from a preset: tiny, small, base, paper",
            ) from error
        config._check_together()
        return config

    def _check_together(self) -> None:
        embeddings = self.action_embedding + self.observation_embedding + self.reward_embedding
        if embeddings != self.width:
            raise ConfigError(
                "the three embeddings of a token do not fill its width",
                where="model.width",
                expected=f"action + observation + reward embedding = {embeddings}",
                found=self.width,
                fix=f"set model.width={embeddings} or change an embedding",
            )
        if self.width % self.heads:
            raise ConfigError(
                "the width is not a multiple of the number of heads",
                where="model.heads",
                expected=f"a divisor of {self.width}",
                found=self.heads,
                fix="choose heads that divide the width",
            )
        if self.shared_attention_norm and not self.parallel_residual:
            raise ConfigError(
                "one norm can be shared by attention and MLP only if both read the same stream",
                where="model.shared_attention_norm",
                expected="parallel_residual = true",
                found="parallel_residual = false",
                fix="set model.parallel_residual=true",
            )
        for name in self.groups:
            if not name or "." in name:
                raise ConfigError(
                    "a group's name is part of its parameters' names and cannot be empty or "
                    "hold a dot",
                    where="model.groups",
                    expected="a name without dots",
                    found=repr(name),
                    fix="rename the group",
                )
