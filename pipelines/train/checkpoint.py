"""Training checkpoints: weights, optimizer and step, durable in the staging directory.

All parameters are concatenated into three flat float32 arrays (weights and the two moments
of AdamW), so that a checkpoint is a few files however many parameters the model has. Which is
where follows from the model's own order of parameters, kept beside them. There is nothing else to
save: the learning rate and the data of a step are functions of the step, and first weights and
dropout of the seed.

`CheckpointWriter` writes in a thread: training stops for the copy to the CPU only.

Shapes: N all parameters, P number of parameter tensors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipelines.artifacts import files
from pipelines.artifacts.arrays import write_array, write_flat
from pipelines.artifacts.work import LOG, all_intact, list_records, read_record
from pipelines.errors import ConfigError
from pipelines.model.saved import layout, load_model
from pipelines.train.metrics import NAME, read_metrics
from pipelines.train.processes import ProcessGroup

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging

Floats = npt.NDArray[np.float32]

#: AdamW's moments by their names in PyTorch.
MOMENTS = ("exp_avg", "exp_avg_sq")

#: Checkpoints kept in the staging directory: the newest, and one to fall back on.
KEEP = 2
_PREFIX = "checkpoint/"


@dataclass(frozen=True)
class State:
    """Weights and AdamW's state.

    Attributes:
        weights_N: The parameters, float32.
        exp_avg_N: First moments; 0 where a parameter was never updated.
        exp_avg_sq_N: Second moments, likewise.
        updates_P: How often each parameter was updated.
    """

    weights_N: Floats
    exp_avg_N: Floats
    exp_avg_sq_N: Floats
    updates_P: npt.NDArray[np.int64]

    @property
    def moments(self) -> dict[str, Floats]:
        """The two moments by their names in PyTorch."""
        return dict(zip(MOMENTS, (self.exp_avg_N, self.exp_avg_sq_N), strict=True))


def empty_state(model: nn.Module) -> State:
    """Return room for the state of a model."""
    sizes = [size for _, size in layout(model)]
    weights_N, exp_avg_N, exp_avg_sq_N = (np.zeros(sum(sizes), np.float32) for _ in range(3))
    return State(weights_N, exp_avg_N, exp_avg_sq_N, np.zeros(len(sizes), np.int64))


def take_snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, into: State | None = None
) -> State:
    """Copy weights and moments to the CPU.

    Where parameters are sharded every process has to call this, since each has a part.

    Args:
        into: Room to use again: fresh memory of this size costs as much as the copy.
    """
    state = empty_state(model) if into is None else into
    start = 0
    for place, parameter in enumerate(model.parameters()):
        stop = start + parameter.numel()
        own: dict[str, Any] = optimizer.state.get(parameter, {})
        state.updates_P[place] = int(own.get("step", 0))
        _fill(state.weights_N[start:stop], parameter)
        for name, flat_N in state.moments.items():
            if own:
                _fill(flat_N[start:stop], own[name])
            else:
                flat_N[start:stop] = 0.0
        start = stop
    return state


@torch.no_grad()
def put_back(state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Set weights and moments; parameters that were never updated get no moments."""
    start = 0
    for count, parameter in zip(state.updates_P.tolist(), model.parameters(), strict=True):
        stop = start + parameter.numel()
        parameter.copy_(_part(state.weights_N[start:stop], parameter))
        if count:
            # Fused AdamW counts on the parameter's device, in float32.
            step = torch.tensor(float(count), dtype=torch.float32, device=parameter.device)
            optimizer.state[parameter] = {"step": step}
            for name, flat_N in state.moments.items():
                room = torch.empty_like(parameter, memory_format=torch.preserve_format)
                moment = room.copy_(_part(flat_N[start:stop], parameter))
                optimizer.state[parameter][name] = moment
        start = stop


def broadcast_state(state: State, group: ProcessGroup, device: torch.device) -> None:
    """Replace a state by rank 0's in every process."""
    for values in (state.weights_N, state.exp_avg_N, state.exp_avg_sq_N, state.updates_P):
        tensor = torch.from_numpy(values).to(device)
        group.broadcast(tensor)
        values[...] = tensor.cpu().numpy()


def _fill(flat: Floats, tensor: Tensor) -> None:
    values = tensor.detach()
    if hasattr(values, "full_tensor"):
        values = values.full_tensor()
    torch.from_numpy(flat).copy_(values.reshape(-1))


def _part(flat: Floats, parameter: Tensor) -> Tensor:
    values = torch.from_numpy(flat).view(parameter.shape)
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return values
    from torch.distributed.tensor import distribute_tensor

    placements = parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(values.to(mesh.device_type), mesh, placements)


class CheckpointWriter:
    """Makes checkpoints durable in the background, at most one at a time.

    Entering and leaving bracket the training loop; leaving waits for the checkpoint that is being
    written.

    Args:
        staging: Where; nobody else may use it while a checkpoint is being written (`wait` ends
            that). None where another process writes: snapshots are taken, since sharded
            parameters need all processes for it, and dropped.
        keep_last: Newest checkpoints to keep.
        keep_every: Keep besides the first at or after every so many steps; 0 for none.
    """

    def __init__(
        self, staging: Staging | None, *, keep_last: int = KEEP, keep_every: int = 0
    ) -> None:
        self._staging = staging
        self._keep_last, self._keep_every = keep_last, keep_every
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._room: State | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        step: int,
        note: Any = None,
        *,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Copy the state after `step` optimizer steps and begin to write it.

        Waits for the one before, if that is still being written.

        Args:
            optimizer: AdamW over these parameters.
            note: Small JSON that `read_checkpoint` gives back.
            before: Called in the thread first: what has to be durable before the checkpoint is.

        Raises:
            StorageError: The checkpoint before could not be written.
        """
        self.wait()
        self._room = take_snapshot(model, optimizer, self._room)
        if self._staging is None:
            return
        arguments = (self._staging, self._room, layout(model), step, note, before)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what stopped the last checkpoint, without waiting for one that is being written.

        Raises:
            StorageError: The file system refused; earlier checkpoints are as they were.
        """
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            StorageError: The file system refused; earlier checkpoints are as they were.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:
            # The error that ends the run is raised, not one of the checkpoint besides.
            self._thread.join()

    def _write(
        self,
        staging: Staging,
        state: State,
        parameters: list[list[Any]],
        step: int,
        note: Any,
        before: Callable[[], None] | None,
    ) -> None:
        try:
            if before is not None:
                before()
            _write_checkpoint(staging, state, parameters, step, note)
            done = checkpoints(staging)
            old = set(done) - kept(done, self._keep_last, self._keep_every)
            staging.drop(*map(_unit_name, old))
        except BaseException as error:
            self._error = error


def kept(steps: list[int], keep_last: int, keep_every: int) -> set[int]:
    """Return which checkpoints stay: the newest, and the first at or after each multiple.

    Args:
        steps: Steps of the checkpoints there are, ascending.
        keep_every: Multiples of how many steps; 0 for none.
    """
    chosen = set(steps[-keep_last:])
    if keep_every:
        before = 0
        for step in steps:
            if step // keep_every > before // keep_every:
                chosen.add(step)
            before = step
    return chosen


def checkpoints(staging: Staging) -> list[int]:
    """Return the steps of the durable checkpoints, ascending."""
    return sorted(
        int(unit.removeprefix(_PREFIX)) for unit in staging.work_items() if unit.startswith(_PREFIX)
    )


def staged_steps(staging: Staging) -> int:
    """Return the steps of staged work that nobody has opened: of its newest checkpoint, or all.

    As on opening it, what has other bytes than were written does not count.
    """
    found = 0
    for path in list_records(staging.directory):
        record = read_record(path)
        if record is not None and all_intact(staging.directory, record["files"]):
            unit = record["unit"]
            # The other unit is the model.
            checkpoint = unit.startswith(_PREFIX)
            steps = int(unit.removeprefix(_PREFIX)) if checkpoint else staging.config["steps"]
            found = max(found, steps)
    return found


def read_checkpoint(staging: Staging, parameters: list[list[Any]]) -> tuple[int, Any, State] | None:
    """Read the newest durable checkpoint: its step, its note and its state; None if there is none.

    Args:
        parameters: The model's layout.

    Raises:
        ConfigError: It belongs to a model with other parameters.
    """
    steps = checkpoints(staging)
    if not steps:
        return None
    name = _unit_name(steps[-1])
    data = staging.data(name)
    if data["parameters"] != parameters:
        raise ConfigError(
            "the staged checkpoint belongs to a model with other parameters",
            where=staging.directory,
            expected=f"{len(parameters)} parameters as the configuration says",
            found=f"{len(data['parameters'])} parameters",
            fix="delete that directory, or vintix train --name another",
        )
    group = staging.scratch(name)
    exp_avg_N, exp_avg_sq_N = (_read(group, moment) for moment in MOMENTS)
    state = State(_read(group, "weights"), exp_avg_N, exp_avg_sq_N, _read(group, "updates"))
    return int(data["step"]), data["note"], state


def begin_after(staging: Staging, artifact: Artifact) -> None:
    """Make the last state of a published run, and its log, the first checkpoint of this one.

    Raises:
        ArtifactCorruptError: The artifact is damaged.
        StorageError: The file system refused.
    """
    attributes: dict[str, Any] = dict(artifact.group("optimizer").attrs)
    parameters = attributes["parameters"]
    weights = dict(load_model(artifact).model.named_parameters())
    weights_N = torch.cat([weights[name].detach().reshape(-1) for name, _ in parameters]).numpy()
    exp_avg_N, exp_avg_sq_N = (artifact.read(f"optimizer/{moment}") for moment in MOMENTS)
    state = State(weights_N, exp_avg_N, exp_avg_sq_N, artifact.read("optimizer/updates"))
    log = f"{LOG}/{NAME}"
    record = files.write_file(staging.directory / log, artifact.read_file(log))
    rows = read_metrics(staging.directory / log)
    seconds = rows[-1]["seconds"] if rows else 0.0
    note: dict[str, Any] = {"recent": [], "seconds": seconds, "log": asdict(record)}
    _write_checkpoint(staging, state, parameters, int(attributes["step"]), note)


def drop_checkpoints(staging: Staging) -> None:
    """Drop all durable checkpoints, once the model itself is durable."""
    staging.drop(*(_unit_name(step) for step in checkpoints(staging)))


def write_optimizer(group: zarr.Group, state: State) -> None:
    """Write AdamW's state: `exp_avg` (N,) and `exp_avg_sq` (N,) float32, and `updates` int64, how
    often each parameter was updated.
    """
    write_array(group, "updates", state.updates_P)
    for moment, values_N in state.moments.items():
        write_flat(group, moment, values_N)


def _write_checkpoint(
    staging: Staging, state: State, parameters: list[list[Any]], step: int, note: Any
) -> None:
    name = _unit_name(step)
    with staging.work_item(name) as unit:
        group = unit.scratch(name)
        write_flat(group, "weights", state.weights_N)
        write_optimizer(group, state)
        unit.data["step"] = step
        unit.data["parameters"] = parameters
        unit.data["note"] = note


def _read(group: zarr.Group, name: str) -> npt.NDArray[Any]:
    # Zarr may hand out memory that must not be written to.
    return np.array(group[name][...])  # type: ignore[index]


def _unit_name(step: int) -> str:
    return f"{_PREFIX}{step:08d}"
