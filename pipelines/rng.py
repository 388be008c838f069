"""Random streams keyed by what they are for, never by what ran before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Key = str | int


def derive_seed(seed: int, *key: Key) -> int:
    """Derive a seed in [0, 2**31) from a base seed and a key.

    Args:
        key: What the stream is for, such as ("distill", "hopper", trajectory, episode).

    Returns:
        The first 31 bits of the SHA-256 of seed and key; equal inputs give equal seeds on every
        machine and in every process.
    """
    return int.from_bytes(_digest(seed, *key)[:4], "little") & 0x7FFF_FFFF


def stream(seed: int, *key: Key) -> np.random.Generator:
    """Return the generator of a key: Philox (counter based), keyed by 128 bits of SHA-256."""
    import numpy as np

    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(_digest(seed, *key)[:16], "little"))
    )


def _digest(seed: int, *key: Key) -> bytes:
    # repr keeps 1 and "1" apart, and the separator keeps ("ab", "c") from ("a", "bc").
    return hashlib.sha256("\x1f".join(repr(part) for part in (seed, *key)).encode()).digest()
