"""Separable CMA-ES: an evolution strategy whose covariance is a diagonal.

After N. Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772) for the default
constants, and R. Ros and N. Hansen, "A Simple Modification in CMA-ES Achieving Linear Time and
Space Complexity" (PPSN 2008) for the diagonal: its learning rates grow by (D + 2) / 3.

Legend: D dimensions, P members of the population, M of them that become parents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class SeparableCMA:
    """The state of a search: ask for candidates, tell their order, best first.

    Attributes:
        mean_D: Centre of the search.
        step: Overall standard deviation (sigma).
        variance_D: Variance of each coordinate, times step squared.
        step_path_D: Evolution path of the step.
        variance_path_D: Evolution path of the variances.
        generation: How many generations have been ranked.
        population: Candidates in a generation.
    """

    mean_D: NDArray[np.float64]
    step: float
    variance_D: NDArray[np.float64]
    step_path_D: NDArray[np.float64]
    variance_path_D: NDArray[np.float64]
    generation: int = 0
    population: int = 14

    @classmethod
    def start(cls, mean_D: NDArray[np.float64], step: float, population: int = 14) -> Self:
        """Begin a search at a point, with one standard deviation for all coordinates."""
        zeros_D = np.zeros(len(mean_D))
        return cls(
            np.array(mean_D, np.float64),
            step,
            np.ones(len(mean_D)),
            zeros_D,
            zeros_D.copy(),
            population=population,
        )

    def ask(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return candidates (P, D); the first one of all is the start itself."""
        draw_PD = generator.standard_normal((self.population, len(self.mean_D)))
        if self.generation == 0:
            draw_PD[0] = 0
        candidates: NDArray[np.float64] = (
            self.mean_D + self.step * np.sqrt(self.variance_D) * draw_PD
        )
        return candidates

    def tell(self, ranked_PD: NDArray[np.float64]) -> None:
        """Take a generation of candidates (P, D), best first; only the better half counts."""
        size, parents = len(self.mean_D), self.population // 2
        weight_M = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
        weight_M /= weight_M.sum()
        mass = 1 / (weight_M**2).sum()
        step_rate = (mass + 2) / (size + mass + 5)
        damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (size + 1)) - 1) + step_rate
        path_rate = (4 + mass / size) / (size + 4 + 2 * mass / size)
        faster = (size + 2) / 3
        rank_one = min(1.0, faster * 2 / ((size + 1.3) ** 2 + mass))
        rank_all = min(1 - rank_one, faster * 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
        usual_length = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))

        moved_MD = (ranked_PD[:parents] - self.mean_D) / self.step
        moved_D = weight_M @ moved_MD
        self.mean_D = self.mean_D + self.step * moved_D
        self.step_path_D = (1 - step_rate) * self.step_path_D + np.sqrt(
            step_rate * (2 - step_rate) * mass
        ) * moved_D / np.sqrt(self.variance_D)
        length = float(np.linalg.norm(self.step_path_D))
        self.generation += 1
        settled = np.sqrt(1 - (1 - step_rate) ** (2 * self.generation))
        # A long path says that the step is too short; the variances wait until it has grown.
        steady = length / settled < (1.4 + 2 / (size + 1)) * usual_length
        self.variance_path_D = (1 - path_rate) * self.variance_path_D
        if steady:
            self.variance_path_D += np.sqrt(path_rate * (2 - path_rate) * mass) * moved_D
        self.variance_D = (
            (1 - rank_one - rank_all) * self.variance_D
            + rank_one * self.variance_path_D**2
            + rank_all * (weight_M @ moved_MD**2)
        )
        self.step *= float(np.exp(min(0.6, step_rate / damping * (length / usual_length - 1))))

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON; floats come back to the last bit."""
        return {
            "mean": self.mean_D.tolist(),
            "step": self.step,
            "variance": self.variance_D.tolist(),
            "step_path": self.step_path_D.tolist(),
            "variance_path": self.variance_path_D.tolist(),
            "generation": self.generation,
            "population": self.population,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Return the search that `as_json` described."""
        return cls(
            np.array(raw["mean"]),
            raw["step"],
            np.array(raw["variance"]),
            np.array(raw["step_path"]),
            np.array(raw["variance_path"]),
            raw["generation"],
            raw["population"],
        )
