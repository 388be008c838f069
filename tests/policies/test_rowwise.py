from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from pipelines.policies.rowwise import RowwiseLinear

SHAPES = [(4, 1), (39, 1), (6, 16), (17, 6), (39, 4), (64, 64), (256, 256), (348, 17)]


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_does_not_depend_on_its_batch(inputs, outputs, dtype):
    """Bit for bit: otherwise recorded bytes would depend on how many copies are stepped."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((inputs, outputs)).astype(dtype)
    bias = generator.standard_normal(outputs).astype(dtype)
    x = generator.standard_normal((67, inputs)).astype(dtype)
    layer = RowwiseLinear(weight, bias)
    whole = layer(x)
    assert whole.dtype == dtype
    for size in (1, 2, 3, 5, 8, 16, 64):
        for start in (0, 1, 7, 67 - size):
            # Values first, layout second: a view and a copy must agree as well.
            assert layer(x[start : start + size]).tobytes() == whole[start : start + size].tobytes()
    assert layer(np.asfortranarray(x)).tobytes() == whole.tobytes()
    assert layer(np.repeat(x, 2, axis=0)[::2]).tobytes() == whole.tobytes()


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_it_is_the_matrix_product(inputs, outputs):
    generator = np.random.default_rng(1)
    weight = generator.standard_normal((inputs, outputs))
    bias = generator.standard_normal(outputs)
    x = generator.standard_normal((9, inputs))
    np.testing.assert_allclose(RowwiseLinear(weight, bias)(x), x @ weight + bias, atol=1e-12)
    np.testing.assert_allclose(RowwiseLinear(weight)(x), x @ weight, atol=1e-12)


def test_inputs_are_added_in_their_order():
    """The definition that makes it independent of kernels: ((x0 w0 + x1 w1) + x2 w2) + ..."""
    generator = np.random.default_rng(2)
    for outputs in (1, 2, 5):
        weight = generator.standard_normal((100, outputs)).astype(np.float32)
        x = generator.standard_normal((3, 100)).astype(np.float32)
        total = np.zeros((3, outputs), np.float32)
        for index in range(100):
            total = total + x[:, index : index + 1] * weight[index]
        np.testing.assert_array_equal(RowwiseLinear(weight)(x), total)


@pytest.mark.process
def test_the_number_of_threads_does_not_matter():
    """A worker computes with one thread, the parent with many; both record the same bytes."""
    code = (
        "import numpy as np, hashlib; from pipelines.policies.rowwise import RowwiseLinear\n"
        "g = np.random.default_rng(0); w = g.standard_normal((512, 512)).astype('f4')\n"
        "x = g.standard_normal((64, 512)).astype('f4')\n"
        "print(hashlib.sha256(RowwiseLinear(w)(x).tobytes()).hexdigest())"
    )
    digests = set()
    for threads in ("1", "4"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
