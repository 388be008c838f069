"""Rotations of many bodies at once; quaternions are (w, x, y, z) as in MuJoCo.

The reference writes rotations as Euler triples (a, b, c) that mean Rz(c) Ry(b) Rx(a), and
quaternions as (x, y, z, w). Arrays may have any leading shape, written ``...``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def multiply(a: Array, b: Array) -> Array:
    """Return the product of two quaternions (..., 4): first the turn `b`, then `a`."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(quaternion: Array) -> Array:
    """Return the opposite turn (..., 4)."""
    return quaternion * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(quaternion: Array, vector: Array) -> Array:
    """Return vectors (..., 3) turned by quaternions (..., 4)."""
    w = quaternion[..., :1]
    u = quaternion[..., 1:]
    t = 2.0 * np.cross(u, vector)
    turned: Array = vector + w * t + np.cross(u, t)
    return turned


def from_euler(x: float, y: float, z: float) -> Array:
    """Return the quaternion (4,) of Rz(z) Ry(y) Rx(x), angles in radians."""
    return multiply(about(2, z), multiply(about(1, y), about(0, x)))


def about(axis: int, angle: float | Array) -> Array:
    """Return the quaternions (..., 4) of turns (...) about x (0), y (1) or z (2), in radians."""
    quaternion = np.zeros((*np.shape(angle), 4))
    quaternion[..., 0], quaternion[..., 1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    return quaternion


def to_euler(quaternion: Array) -> Array:
    """Return Euler angles x, y, z (..., 3) of Rz Ry Rx; x and z in (-pi, pi], y in half of it."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    roll = np.arctan2(2 * (w * x + y * z), w * w - x * x - y * y + z * z)
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return np.stack([roll, pitch, yaw], axis=-1)


def angle_between(a: Array, b: Array) -> Array:
    """Return the angle (...) between two orientations in [0, pi], as the reference computes it.

    ``2 asin(min(1, |vec(a conj(b))|))``: the shorter way round.
    """
    difference = multiply(a, conjugate(b))
    length = np.sqrt((difference[..., 1:] ** 2).sum(axis=-1))
    angle: Array = 2.0 * np.arcsin(np.minimum(length, 1.0))
    return angle


def distance(a: Array, b: Array) -> Array:
    """Return the distance (...) between points (..., 3)."""
    apart: Array = np.sqrt(((a - b) ** 2).sum(axis=-1))
    return apart
