from __future__ import annotations

import numpy as np
import pytest

from pipelines.policies.lqr import linearize, lqr_gain

pytestmark = pytest.mark.simulator

# A pole hinged at its end without gravity or friction is a double integrator.
_XML = """
<mujoco><option gravity="0 0 0" timestep="0.01" integrator="RK4"/>
<worldbody><body><joint name="hinge" type="slide" axis="1 0 0"/><geom type="sphere" size="0.1"
mass="2"/></body></worldbody><actuator><motor joint="hinge" gear="4"/></actuator></mujoco>
"""


@pytest.fixture
def model():
    import mujoco

    return mujoco.MjModel.from_xml_string(_XML)


def test_a_double_integrator_is_linearised_exactly(model):
    """A mass of 2 under a force of 4 u over 5 steps of 0.01 s, with RK4."""
    state, control = linearize(model, np.zeros(1), frame_skip=5)
    time = 0.05
    np.testing.assert_allclose(state, [[1, time], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(control, [[time**2], [2 * time]], atol=1e-9)


def test_the_gain_solves_the_riccati_equation_and_stabilises(model):
    gain = lqr_gain(model, np.zeros(1), 5, (1.0, 0.1), 0.1)
    state, control = linearize(model, np.zeros(1), 5)
    closed = state - control @ gain
    assert np.abs(np.linalg.eigvals(closed)).max() < 1
    value = np.zeros((2, 2))
    for _ in range(5000):
        value = np.diag([1.0, 0.1]) + gain.T @ gain * 0.1 + closed.T @ value @ closed
    best = np.linalg.solve(0.1 + control.T @ value @ control, control.T @ value @ state)
    np.testing.assert_allclose(best, gain, rtol=1e-6)
