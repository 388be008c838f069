"""What the actions of a group of tasks are, and everything that depends on their kind.

An `ActionSpec` is a value: it checks, draws, mixes with noise, shows to a model and takes back from
it. `Box` is for continuous actions, `Discrete` for a choice among n; another kind is a class beside
them and a line in `KINDS`.

Shapes: B copies of an environment, R steps, A action channels, W channels that a model sees. Where
other files write (B, A) for actions, it is (B, A) of a box and (B,) of discrete actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipelines.errors import ConfigError, VintixError
from pipelines.text import counted

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Mix = Callable[[int, "NDArray[Any]"], "NDArray[Any]"]
"""Takes a step's number and the policy's actions (B, ...) and returns those to be executed."""


class ActionSpec(ABC):
    """The actions of a group. Two groups' actions are alike where their specs are equal.

    As text a spec is what messages call the actions.

    Attributes:
        continuous: Whether actions are vectors of numbers of which means and differences say
            something: only such are normalised, rotated and clipped.
    """

    kind: ClassVar[str]
    continuous: ClassVar[bool] = False

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

    @property
    @abstractmethod
    def space(self) -> gymnasium.Space[Any]:
        """The actions as a space of Gymnasium."""

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
    def mixer(self, generators: Sequence[np.random.Generator], epsilon: NDArray[np.float32]) -> Mix:
        """Return what puts noise into a policy's actions in R steps, with all of it drawn.

        Args:
            generators: One for each of the B copies.
            epsilon: Share of noise, in [0, 1], of each step (R,), or of each step and copy (R, B);
                of the latter a row is read when its step is mixed.
        """

    @abstractmethod
    def idle(self, copies: int) -> NDArray[Any]:
        """Return actions (copies, *row_shape) for steps that nobody looks at."""

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Return what a model is shown (..., W) for stored actions (..., *row_shape)."""

    @abstractmethod
    def decode(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return what a head or a learner gives (..., *row_shape) as it is executed and stored."""

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
    continuous: ClassVar[bool] = True

    dim: int
    low_A: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    high_A: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"a box of actions has one dimension or more, not {self.dim!r}")

    def __str__(self) -> str:
        return f"continuous actions of {counted(self.dim, 'dimension')}"

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

    @property
    def space(self) -> gymnasium.spaces.Box:
        """The box between its bounds."""
        import gymnasium
        import numpy as np

        return gymnasium.spaces.Box(*self.bounds, dtype=np.float32)

    @classmethod
    def between(cls, low_A: NDArray[np.float32], high_A: NDArray[np.float32]) -> Box:
        """Return the box between bounds, which `draw`, `mixer`, `idle` and `decode` need."""
        return cls(len(low_A), low_A, high_A)

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds (A,).

        Raises:
            ValueError: They are not known, as where no environment is at hand.
        """
        if self.low_A is None or self.high_A is None:
            raise ValueError("the bounds of these actions are not known")
        return self.low_A, self.high_A

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

        low_A, high_A = self.bounds
        dtype = np.float64 if double else np.float32
        drawn_RBA = np.empty((steps, len(generators), self.dim), dtype)
        for index, generator in enumerate(generators):
            drawn_RBA[:, index] = generator.random((steps, self.dim), dtype=dtype)
        drawn_RBA *= high_A - low_A
        drawn_RBA += low_A
        # Rounding to float32 may step over a bound by one unit in the last place.
        return self.decode(drawn_RBA) if double else drawn_RBA

    def mixer(self, generators: Sequence[np.random.Generator], epsilon: NDArray[np.float32]) -> Mix:
        """Return what makes ``(1 - epsilon) action + epsilon random`` (Algorithm 1).

        The noise is scaled beforehand: this runs at every step of a fast simulator.
        """
        import numpy as np

        low_A, high_A = self.bounds
        random = self.draw(generators, len(epsilon))
        if epsilon.ndim == 2:

            def mix_each(step: int, action_BA: NDArray[Any]) -> NDArray[Any]:
                share_B1 = epsilon[step, :, None]
                return self.decode((1 - share_B1) * action_BA + share_B1 * random[step])

            return mix_each
        keep_R = (1 - epsilon).tolist()
        random *= epsilon.astype(np.float32, copy=False)[:, None, None]
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

    def idle(self, copies: int) -> NDArray[np.float32]:
        """Return what is nearest to 0 in the box (copies, A)."""
        import numpy as np

        return np.tile(np.clip(np.float32(0), *self.bounds), (copies, 1))

    def encode(self, action: Tensor) -> Tensor:
        """Return the actions themselves."""
        return action

    def decode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Return the actions as float32, clipped to the bounds."""
        import numpy as np

        clipped: NDArray[np.float32] = np.clip(action.astype(np.float32, copy=False), *self.bounds)
        return clipped

    def as_json(self) -> dict[str, Any]:
        """Return ``{"kind": "box", "dim": A}``."""
        return {"kind": self.kind, "dim": self.dim}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Make one from its JSON."""
        return cls(value["dim"])


@dataclass(frozen=True, slots=True)
class Discrete(ActionSpec):
    """A choice among actions 0 to n - 1, stored as one int64; a model sees one channel for each.

    Attributes:
        n: How many there are, at least 2.
    """

    kind: ClassVar[str] = "discrete"

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 2:
            raise ValueError(f"there are two discrete actions or more, not {self.n!r}")

    def __str__(self) -> str:
        return f"{self.n} discrete actions"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """()."""
        return ()

    @property
    def row_dtype(self) -> str:
        """int64: what Gymnasium draws and NumPy's argmax gives."""
        return "int64"

    @property
    def width(self) -> int:
        """n."""
        return self.n

    @property
    def space(self) -> gymnasium.spaces.Discrete:
        """The choices from 0 on."""
        import gymnasium

        return gymnasium.spaces.Discrete(self.n)

    def find_fault(self, action: NDArray[Any]) -> str | None:
        """Tell which actions are no whole numbers from 0 to n - 1."""
        if action.dtype.kind not in "iu":
            return f"{action.dtype} of shape {action.shape}"
        bad = (action < 0) | (action >= self.n)
        return str(action[bad].flat[0]) if bad.any() else None

    def draw(
        self, generators: Sequence[np.random.Generator], steps: int, *, double: bool = False
    ) -> NDArray[np.int64]:
        """Return actions (steps, B), each as likely as the others."""
        import numpy as np

        return np.stack([each.integers(self.n, size=steps) for each in generators], axis=1)

    def mixer(self, generators: Sequence[np.random.Generator], epsilon: NDArray[np.float32]) -> Mix:
        """Return what plays a random action with probability epsilon, else the policy's.

        This is the noise of AD-epsilon (Zisman et al. 2023, arXiv:2312.12275).
        """
        import numpy as np

        random_RB = self.draw(generators, len(epsilon))
        uniform_RB = np.stack([each.random(len(epsilon)) for each in generators], axis=1)
        epsilon_RB = epsilon if epsilon.ndim == 2 else epsilon[:, None]
        copyto = np.copyto

        def mix(step: int, action_B: NDArray[Any]) -> NDArray[Any]:
            mixed_B: NDArray[np.int64] = random_RB[step]
            try:
                copyto(mixed_B, action_B, where=uniform_RB[step] >= epsilon_RB[step])
            except (TypeError, ValueError) as error:
                raise VintixError(
                    "a policy does not give one discrete action for each copy",
                    expected=f"whole numbers of shape {mixed_B.shape}",
                    found=f"{action_B.dtype} of shape {action_B.shape}",
                    fix="correct its act()",
                ) from error
            return mixed_B

        return mix

    def idle(self, copies: int) -> NDArray[np.int64]:
        """Return action 0 for each copy."""
        import numpy as np

        return np.zeros(copies, np.int64)

    def encode(self, action: Tensor) -> Tensor:
        """Return 1 in the channel of the action and 0 in the others, float32 (..., n)."""
        from torch.nn.functional import one_hot

        return one_hot(action, self.n).float()

    def decode(self, action: NDArray[Any]) -> NDArray[np.int64]:
        """Return the actions as int64."""
        import numpy as np

        return action.astype(np.int64, copy=False)

    def as_json(self) -> dict[str, Any]:
        """Return ``{"kind": "discrete", "n": n}``."""
        return {"kind": self.kind, "n": self.n}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Make one from its JSON."""
        return cls(value["n"])


KINDS: dict[str, type[ActionSpec]] = {Box.kind: Box, Discrete.kind: Discrete}
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
    """Return the actions of a task that is given as JSON, as artifacts have it.

    There were only boxes before there was ``actions``, which says nothing of a box to this day.

    Raises:
        ConfigError: Its ``actions`` are of a kind that this version does not know.
    """
    return from_json(task["actions"]) if "actions" in task else Box(task["action_dim"])


def box_of(actions: ActionSpec, who: str, dim: int | None = None) -> Box:
    """Return actions that have to be continuous.

    Args:
        who: What knows no others, for the message.
        dim: How many dimensions it has; None for any number.

    Raises:
        ConfigError: They are others.
    """
    if not isinstance(actions, Box) or dim not in (None, actions.dim):
        raise ConfigError(
            f"{who} does not fit the actions of the task",
            expected="continuous actions" if dim is None else Box(dim),
            found=actions,
        )
    return actions
