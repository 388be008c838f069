"""What the actions of a group of tasks are, and everything that depends on their kind.

An `ActionSpec` is a value: it checks, draws, mixes with noise, shows to a model and takes back from
it. `Box` is the one kind there is; another is a class beside it and a line in `KINDS`.

Shapes: B copies of an environment, R steps, A action channels, W channels that a model sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mix = Callable[[int, "NDArray[Any]"], "NDArray[Any]"]
"""Takes a step's number and the policy's actions (B, ...) and returns those to be executed."""


class ActionSpec(ABC):
    """The actions of a group. Two groups' actions are alike where their specs are equal."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a stored action."""

    @property
    @abstractmethod
    def row_dtype(self) -> str:
        """NumPy dtype name of a stored action."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels that a model is shown, W."""

    @abstractmethod
    def bounded(self, low_A: NDArray[np.float32], high_A: NDArray[np.float32]) -> ActionSpec:
        """Return the spec with the bounds of an environment's actions, which `draw`, `mixer`,
        `decode` need; a kind without bounds returns itself.
        """

    @abstractmethod
    def find_fault(self, action: NDArray[Any]) -> str | None:
        """Tell what is wrong with actions (..., *row_shape), None where nothing is."""

    @abstractmethod
    def draw(
        self, generators: Sequence[np.random.Generator], steps: int, *, double: bool = False
    ) -> NDArray[Any]:
        """Return uniformly random actions (steps, B, *row_shape), a generator for each copy.

        Args:
            generators: One for each of the B copies.
            steps: R.
            double: Draw with 53 bits instead of 24 before rounding to the stored dtype.
        """

    @abstractmethod
    def mix(self, action: NDArray[Any], random: NDArray[Any], epsilon: float) -> NDArray[Any]:
        """Return a policy's actions with a share of `epsilon` of random ones (Algorithm 1)."""

    @abstractmethod
    def mixer(self, random: NDArray[Any], epsilon_R: NDArray[np.float32]) -> Mix:
        """Return `mix` for R steps with everything prepared; it may keep and change `random`."""

    @abstractmethod
    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Return what a model is shown (..., W) for stored actions (..., *row_shape)."""

    @abstractmethod
    def decode(self, shown: NDArray[Any]) -> NDArray[Any]:
        """Return the actions to execute (..., *row_shape) for what a model gives (..., W)."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return the spec as JSON, without bounds; `from_json` gives it back."""

    @classmethod
    @abstractmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Make one from the JSON of `as_json`.

        Raises:
            KeyError, TypeError, ValueError: It is not that.
        """


@dataclass(frozen=True, slots=True)
class Box(ActionSpec):
    """Continuous actions between bounds, float32 (A,).

    Attributes:
        dim: A, at least 1.
        low_A: Lower bounds, float32; None where no environment is at hand.
        high_A: Upper bounds.
    """

    kind: ClassVar[str] = "box"

    dim: int
    low_A: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    high_A: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"a box of actions has one dimension or more, not {self.dim!r}")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(A,)."""
        return (self.dim,)

    @property
    def row_dtype(self) -> str:
        """float32."""
        return "float32"

    @property
    def width(self) -> int:
        """A."""
        return self.dim

    def bounded(self, low_A: NDArray[np.float32], high_A: NDArray[np.float32]) -> Box:
        """Return the box between these bounds."""
        return replace(self, low_A=low_A, high_A=high_A)

    def find_fault(self, action: NDArray[Any]) -> str | None:
        """Tell which actions are no finite float32 (..., A)."""
        import numpy as np

        if action.shape[-1:] != self.row_shape or action.dtype != np.float32:
            return f"{action.dtype} of shape {action.shape}"
        finite = np.isfinite(action)
        if finite.all():
            return None
        return str(action[~finite.all(axis=-1)][0].tolist())

    def draw(
        self, generators: Sequence[np.random.Generator], steps: int, *, double: bool = False
    ) -> NDArray[np.float32]:
        """Return actions (steps, B, A), uniform in the box."""
        import numpy as np

        low_A, high_A = self._bounds()
        dtype = np.float64 if double else np.float32
        drawn_RBA = np.empty((steps, len(generators), self.dim), dtype)
        for index, generator in enumerate(generators):
            drawn_RBA[:, index] = generator.random((steps, self.dim), dtype=dtype)
        drawn_RBA *= high_A - low_A
        drawn_RBA += low_A
        # Rounding to float32 may step over a bound by one unit in the last place.
        return self.decode(drawn_RBA) if double else drawn_RBA

    def mix(self, action: NDArray[Any], random: NDArray[Any], epsilon: float) -> NDArray[Any]:
        """Return ``(1 - epsilon) action + epsilon random`` (B, A)."""
        return self.decode((1 - epsilon) * action + epsilon * random)

    def mixer(self, random: NDArray[Any], epsilon_R: NDArray[np.float32]) -> Mix:
        """Return what mixes drawn actions (R, B, A) into a policy's; see `mix`.

        The noise is scaled beforehand: this runs at every step of a fast simulator.
        """
        import numpy as np

        low_A, high_A = self._bounds()
        keep_R = (1 - epsilon_R).tolist()
        random *= epsilon_R[:, None, None]
        multiply, minimum, maximum, float32 = np.multiply, np.minimum, np.maximum, np.float32

        def mix(step: int, action_BA: NDArray[Any]) -> NDArray[Any]:
            # A new array each step: an environment may keep it, or work in place on it.
            mixed_BA = multiply(action_BA, keep_R[step], dtype=float32)
            mixed_BA += random[step]
            # A convex mix of points of the box leaves it by a rounding at most.
            maximum(mixed_BA, low_A, out=mixed_BA)
            minimum(mixed_BA, high_A, out=mixed_BA)
            return mixed_BA

        return mix

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Return the actions themselves."""
        return action

    def decode(self, shown: NDArray[Any]) -> NDArray[np.float32]:
        """Return the actions as float32, clipped to the bounds."""
        import numpy as np

        low_A, high_A = self._bounds()
        clipped: NDArray[np.float32] = np.clip(shown.astype(np.float32, copy=False), low_A, high_A)
        return clipped

    def as_json(self) -> dict[str, Any]:
        """Return ``{"kind": "box", "dim": A}``."""
        return {"kind": self.kind, "dim": self.dim}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Make one from its JSON."""
        return cls(value["dim"])

    def _bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.low_A is None or self.high_A is None:
            raise ValueError("the bounds of these actions are not known: call bounded() first")
        return self.low_A, self.high_A


KINDS: dict[str, type[ActionSpec]] = {Box.kind: Box}
"""The kinds of actions by name."""


def from_json(value: Mapping[str, Any]) -> ActionSpec:
    """Return the spec that `ActionSpec.as_json` wrote.

    Raises:
        ConfigError: The kind is unknown, or the value is not of its form.
    """
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        raise ConfigError(
            "unknown kind of actions",
            expected=", ".join(KINDS),
            found=value.get("kind"),
            fix="pip install --upgrade vintix",
        )
    try:
        return kind.read(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"not actions of kind {kind.kind!r}",
            expected="what as_json wrote",
            found=dict(value),
        ) from error


def actions_of(task: Mapping[str, Any]) -> ActionSpec:
    """Return the actions of a task that is given as JSON, as artifacts have it."""
    return Box(task["action_dim"])
