"""Configuration of the stage `train`, with the defaults of each preset filled in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from pipelines.errors import ConfigError
from pipelines.methods import DEFAULT, METHODS, find_method
from pipelines.methods.base import Method, Rules, Schedule
from pipelines.methods.windows import ContextOrder, Sampling
from pipelines.model.config import GroupDims
from pipelines.model.presets import PRESETS
from pipelines.options import ConflictError, Domains, Name, Seed, Tasks, option, setting
from pipelines.plugins import OneOf

Fidelity = Literal["corrected", "release"]
Preset = Literal["tiny", "small", "base", "paper"]
Tracker = Literal["tensorboard", "wandb", "trackio"]

#: Defaults by preset. `paper` is Table 2 (Appendix D) with section 2.3.2: learning rate, betas,
#: 64 sequences and 2 accumulation steps; its weight decay of 0.1 and the absence of clipping are
#: the released configuration's. The paper names neither a number of updates nor a warm-up: 663 k
#: updates are 150 epochs of the 566 k windows that the release cuts, 128 to an update, and 1 % of
#: warm-up is ours. `tiny` was found on two CPU cores, which make 800 updates in minutes; `small`
#: and `base` lie between and are our choice.
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        preset: {
            "steps": steps,
            "batch_size": batch_size,
            "gradient_accumulation": accumulation,
            "learning_rate": rate,
            "weight_decay": decay,
            "warmup_fraction": warmup,
            "clip_norm": clip,
            "checkpoint_every": every,
        }
        for preset, steps, batch_size, accumulation, rate, decay, warmup, clip, every in (
            ("tiny", 800, 8, 1, 1e-3, 0.01, 0.0625, 1.0, 100),
            ("small", 5_000, 16, 1, 6e-4, 0.01, 0.02, 1.0, 100),
            ("base", 50_000, 32, 1, 3e-4, 0.1, 0.02, 1.0, 500),
            ("paper", 663_000, 64, 2, 3e-4, 0.1, 0.01, 0.0, 1_000),
        )
    }
)

#: Fields that do not change what is trained: neither the artifact's configuration nor its digest
#: knows them, so that a run may be resumed with other values.
NOT_CONTENT = (
    "name",
    "dataset",
    "init",
    "checkpoint_every",
    "keep_last",
    "keep_every",
    "gpus",
    "processes",
    "nodes",
    "rendezvous",
    "shard",
    "gradient_checkpointing",
    "loader_threads",
    "track",
    "validation_every",
    "validation_windows",
    "rollout_every",
    "rollout_steps",
)

#: Fields that the configuration of an artifact has only where they differ from these values: they
#: were added when there were artifacts already, which are still up to date.
ADDED: Mapping[str, Any] = MappingProxyType(
    {
        "fidelity": "corrected",
        "last_fraction": None,
        "validation_fraction": 0.0,
        "compile": False,
        "random_map": False,
        "context_order": "recorded",
    }
)


class TrainConfig(BaseModel):
    """What to train, on what, and how.

    A field that is not given, or given as None, has the preset's default from `DEFAULTS`; the
    configuration that results is complete. `lr` is another spelling of `learning_rate`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str | None = option(
        "Dataset artifact; default the newest.", None, metavar="ARTIFACT", values=("datasets",)
    )
    preset: Preset = option("Size of the model.", "tiny")
    # Groups that it does not have start anew.
    init: str | None = option(
        "Start from this checkpoint's weights; packaged is the one of vintix.",
        None,
        metavar="ARTIFACT",
        values=("checkpoints",),
    )
    tasks: Tasks = ()
    domains: Domains = ()
    # ed uses the noise-free end of the histories only (Appendix C.1); ad-no-reward sets rewards to
    # 0 (Appendix C.2).
    method: Annotated[str, OneOf(METHODS)] = option(
        "What is learnt: ad (the paper), ed (expert distillation), ad-no-reward, or dpt (the "
        "demonstrator's actions without noise).",
        DEFAULT,
    )
    steps: int = option(
        "Optimizer steps; a run of fewer in the workspace is continued from its last one, with the "
        "learning rate of the longer schedule.",
        ge=1,
    )
    batch_size: int = option("Sequences a step.", ge=1)
    context: int = option("Length of a sequence.", ge=2)
    learning_rate: float = option("Peak learning rate.", gt=0, allow_inf_nan=False)
    device: Literal["auto", "cpu", "cuda"] = option("Where to train.", "auto")
    gpus: int | None = option("GPUs of each machine to train on; one process each.", None, ge=1)
    processes: int | None = option(
        "Processes to train with on CPUs (--device cpu; gloo).", None, ge=1
    )
    nodes: int = option("Machines; run the same command on each.", 1, ge=1)
    rendezvous: str | None = option(
        "Where the machines meet.", None, metavar="HOST:PORT", pattern=r"^[^:\s]+:\d+$"
    )
    shard: bool = option("Split the parameters over the processes (FSDP2).", False)
    fidelity: Fidelity = option("release: train by the released code's own rules.", "corrected")
    track: Tracker | None = option("Also log to this tracker.", None)
    name: Name = None
    seed: Seed = 0
    model: dict[str, Any] = setting(
        "Overrides of the preset's architecture: fields of "
        "pipelines.model.config.ModelConfig other than groups and context.",
        default_factory=dict,
    )
    gradient_accumulation: int = setting(
        "Micro-steps of an optimizer step, of batch_size sequences each over all "
        "processes; the loss of an update is their mean.",
        ge=1,
    )
    betas: tuple[float, float] = setting("Decay rates of Adam's moments (Table 2).", (0.9, 0.99))
    weight_decay: float = setting(
        "Decoupled weight decay, on the weights of linear layers only.", ge=0, allow_inf_nan=False
    )
    warmup_fraction: float = setting(
        "Part of the optimizer steps in which the rate rises linearly.", ge=0, lt=1
    )
    final_lr_fraction: float = setting(
        "Where the cosine ends, as a part of the peak.", 0.0, ge=0, le=1
    )
    clip_norm: float = setting(
        "Largest global gradient norm; 0 for no clipping.", ge=0, allow_inf_nan=False
    )
    sampling: Sampling = setting(
        "task draws tasks uniformly, as section 2.3 says; window draws windows "
        "uniformly, as the released code does.",
        "task",
    )
    last_fraction: float | None = setting(
        "Train on windows of this last part of each trajectory only, the released "
        "code's last_frac; default all. With ed it stands for the noise-free end, which is not "
        "known in data of other origin.",
        None,
        gt=0,
        le=1,
    )
    episode_sparsity: bool = setting(
        "Use every k-th episode of tasks whose catalogue entry has k > 1, where enough "
        "of the trajectory remains.",
        True,
    )
    random_map: bool = setting(
        "Show the model each window through a random orthogonal map of observations "
        "and one of actions, so that it has to learn from its context what the channels mean; the "
        "checkpoint is then played through such maps, too.",
        False,
    )
    context_order: ContextOrder = setting(
        "Order of the episodes of a window: recorded, or shuffled, each window anew, as "
        "Decision-Pretrained Transformers see them.",
        "recorded",
    )
    checkpoint_every: int = setting(
        "Optimizer steps between two durable checkpoints. One that comes due while the "
        "one before is still being written waits for it, and training does not.",
        ge=1,
    )
    keep_last: int = setting("Newest checkpoints kept until the model is published.", 2, ge=1)
    keep_every: int = setting(
        "Keep besides the first checkpoint at or after every so many steps; 0 for none.", 0, ge=0
    )
    validation_fraction: float = setting(
        "Part of each task's trajectories that is set aside, at least one where it has "
        "two or more, to measure a loss on; 0 trains on everything.",
        0.0,
        ge=0,
        lt=1,
    )
    validation_every: int = setting(
        "Optimizer steps between two measurements of that loss.", 100, ge=1
    )
    validation_windows: int = setting(
        "Windows that each of them is measured on, always the same.", 32, ge=1
    )
    rollout_every: int = setting(
        "Optimizer steps between two short rollouts of the current weights; 0 for none.", 0, ge=0
    )
    rollout_steps: int = setting("Environment steps of each of them, a task.", 200, ge=1)
    gradient_checkpointing: bool = setting(
        "Compute each block's activations anew in the backward pass instead of keeping them.", False
    )
    compile: bool = setting("Compile the model with torch.compile.", False)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "float32, bfloat16 (autocast; weights stay float32), or auto: bfloat16 on "
        "CUDA, float32 on the CPU, where many processors only emulate bfloat16.",
        "auto",
    )
    attention: str = setting("Attention backend.", "auto")
    threads: int = setting(
        "CPU threads of the training step; 0 for all the process may use. Sums are "
        "split over threads, so runs are bit-identical for equal numbers only.",
        0,
        ge=0,
    )
    loader_threads: int = setting(
        "Threads that read windows ahead, in each process. One is enough for files "
        "that the system has cached; more hide the latency of a network file system.",
        1,
        ge=1,
    )

    @property
    def learner(self) -> Method:
        """The training method."""
        return find_method(self.method)

    @property
    def rules(self) -> Rules:
        """By which rules the method trains."""
        return self.learner.rules[self.fidelity]

    @property
    def schedule(self) -> Schedule:
        """What the learning rate follows from."""
        return Schedule(
            steps=self.steps,
            accumulation=self.gradient_accumulation,
            peak=self.learning_rate,
            warmup_fraction=self.warmup_fraction,
            final_fraction=self.final_lr_fraction,
        )

    @property
    def sequences_per_step(self) -> int:
        """Sequences of one optimizer step."""
        return self.batch_size * self.gradient_accumulation

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.sequences_per_step * self.context

    @property
    def local_processes(self) -> int:
        """Processes of this machine that train together."""
        return (self.processes if self.device == "cpu" else self.gpus) or 1

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        if "lr" in given and "learning_rate" not in given:
            given["learning_rate"] = given.pop("lr")
        # An unknown preset is reported by its own field, not by those it leaves empty.
        preset = str(given.get("preset"))
        preset = preset if preset in DEFAULTS else "tiny"
        of_rules: Mapping[str, object] = {}
        method, fidelity = given.get("method", DEFAULT), given.get("fidelity")
        # What is wrong with them is reported by their own fields.
        if fidelity is not None and method in METHODS.names:
            found = find_method(method).rules.get(str(fidelity))
            of_rules = {} if found is None else found.defaults
        return {"context": PRESETS[preset]["context"], **DEFAULTS[preset], **of_rules, **given}

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ConflictError(
                "both betas must lie in [0, 1)",
                fix="vintix train ... --set train.betas=[0.9,0.99]",
            )
        return betas

    @field_validator("model")
    @classmethod
    def _check_overrides(cls, model: dict[str, Any]) -> dict[str, Any]:
        for name, reason, other in (
            ("groups", "the groups are those of the dataset", ""),
            ("context", "the context is set by train.context", ", and give --context N"),
        ):
            if name in model:
                raise ConflictError(
                    f"model.{name} cannot be overridden: {reason}",
                    fix=f"leave {{{name}}} out{other}",
                    **{name: model[name]},
                )
        return model

    @field_validator("attention")
    @classmethod
    def _check_attention(cls, attention: str) -> str:
        if attention == "auto":
            return attention
        from pipelines.model.attention.selection import check_backend

        return check_backend(attention)

    @model_validator(mode="after")
    def _check_architecture(self) -> Self:
        """Refuse what would fit no dataset, before there is one."""
        if not self.model:
            return self
        from pipelines.model.presets import preset

        any_group = {"any": GroupDims(observation_dim=1, action_dim=1)}
        try:
            preset(self.preset, any_group, **{**self.model, "context": self.context})
        except ConfigError as error:
            # On the command line a setting stands with its stage before it.
            place = error.where
            error.where = f"train.{place}"
            if error.instead is not None and place == f"model.{error.instead[0]}":
                error.instead = (error.where, f"train.model.{error.instead[1]}")
            raise
        return self

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.device == "cpu" and self.gpus is not None:
            raise ConflictError(
                "gpus cannot be asked for together with device cpu",
                fix=f"vintix train ... --device auto --gpus {self.gpus}, or leave {{gpus}} out",
                gpus=self.gpus,
                device=self.device,
            )
        if self.processes is not None and self.device != "cpu":
            raise ConflictError(
                "processes are for device cpu; on GPUs there is one for each of gpus",
                fix=f"vintix train ... --device cpu --processes {self.processes}, or --gpus "
                f"{self.processes} in their place",
                processes=self.processes,
                device=self.device,
            )
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ConflictError(
                "several nodes and a rendezvous host:port need each other",
                fix=f"vintix train ... --nodes {max(2, self.nodes)} --rendezvous "
                f"{self.rendezvous or 'HOST:PORT'}, or neither of the two",
                nodes=self.nodes,
                rendezvous=self.rendezvous,
            )
        if self.shard and self.rollout_every:
            raise ConflictError(
                "rollouts while training need the whole model: not with shard",
                fix="vintix train ... --set train.rollout_every=0, or leave {shard} out",
                shard=self.shard,
                rollout_every=self.rollout_every,
            )
        return self

    @model_validator(mode="after")
    def _check_fidelity(self) -> Self:
        known = self.learner.rules
        if self.fidelity not in known:
            raise ConflictError(
                f"the method {self.method} has no fidelity {self.fidelity}, only "
                f"{', '.join(known)}",
                fix=f"vintix train ... --fidelity {next(iter(known))}, or --method {DEFAULT}",
                method=self.method,
                fidelity=self.fidelity,
            )
        known[self.fidelity].check(
            sampling=self.sampling, random_map=self.random_map, context_order=self.context_order
        )
        return self
