"""Linear-quadratic regulators for the pendulums, from a finite-difference linearisation.

Legend: S state deviations (positions, then velocities), A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSILON = 1e-5


def linearize(
    model: Any, equilibrium: NDArray[Any], frame_skip: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Linearise one environment step around an equilibrium at rest without control.

    By central differences of ``mj_step`` over `frame_skip` steps: MuJoCo's own
    ``mjd_transitionFD`` does not support the RK4 integrator of these bodies.

    Args:
        model: ``mujoco.MjModel`` whose positions and velocities have one dimension a joint.
        equilibrium: Joint positions (model.nq,).
        frame_skip: Simulator steps in an environment step.

    Returns:
        The matrices (S, S) of the state and (S, A) of the control.
    """
    import mujoco

    data = mujoco.MjData(model)
    positions = model.nv

    def step(state_S: NDArray[Any], control_A: NDArray[Any]) -> NDArray[Any]:
        mujoco.mj_resetData(model, data)
        data.qpos[:] = equilibrium + state_S[:positions]
        data.qvel[:] = state_S[positions:]
        data.ctrl[:] = control_A
        mujoco.mj_step(model, data, nstep=frame_skip)
        return np.concatenate([data.qpos - equilibrium, data.qvel])

    rest_S, rest_A = np.zeros(2 * positions), np.zeros(model.nu)
    state_SS = [
        (step(rest_S + shift, rest_A) - step(rest_S - shift, rest_A)) / (2 * _EPSILON)
        for shift in _EPSILON * np.eye(2 * positions)
    ]
    control_AS = [
        (step(rest_S, rest_A + shift) - step(rest_S, rest_A - shift)) / (2 * _EPSILON)
        for shift in _EPSILON * np.eye(model.nu)
    ]
    return np.stack(state_SS, axis=1), np.stack(control_AS, axis=1)


def lqr_gain(
    model: Any,
    equilibrium: NDArray[Any],
    frame_skip: int,
    state_cost: Sequence[float],
    control_cost: float,
) -> NDArray[np.float64]:
    """Return the gain (A, S) of the infinite-horizon regulator ``control = -gain @ state``.

    Args:
        model: ``mujoco.MjModel``.
        equilibrium: Joint positions (model.nq,).
        frame_skip: Simulator steps in an environment step.
        state_cost: Diagonal of the state's cost (S,).
        control_cost: Cost of each squared control.
    """
    from scipy.linalg import solve_discrete_are

    state_SS, control_SA = linearize(model, equilibrium, frame_skip)
    control_AA = control_cost * np.eye(control_SA.shape[1])
    value_SS = solve_discrete_are(state_SS, control_SA, np.diag(state_cost), control_AA)
    gain: NDArray[np.float64] = np.linalg.solve(
        control_AA + control_SA.T @ value_SS @ control_SA, control_SA.T @ value_SS @ state_SS
    )
    return gain
