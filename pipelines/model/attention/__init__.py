"""Causal attention with ALiBi and an optional sliding window: one meaning, several backends.

Every backend computes softmax(q k^T / sqrt(K) - slope x distance) v over the keys at or before
each query and, with a window, over the last `window` of them. They differ in speed, memory, device
and precision only, and the parity tests hold them together.

``attend`` is the function; ``select_backend`` says which backend serves a device.
"""

from pipelines.model.attention.facade import BACKENDS, AttentionBackend, attend
from pipelines.model.attention.memo import AttentionMemo
from pipelines.model.attention.selection import check_backend, select_backend

__all__ = [
    "BACKENDS",
    "AttentionBackend",
    "AttentionMemo",
    "attend",
    "check_backend",
    "select_backend",
]
