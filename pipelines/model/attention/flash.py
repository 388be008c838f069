"""FlashAttention 2 (Dao, 2023), the kernel of the released code. CUDA, half precision only.

The package `flash-attn` is the optional extra `flash` and is imported when first needed.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.errors import MissingDependencyError
from pipelines.model.attention.alibi import AttentionCache


def flash_function() -> Callable[..., Tensor]:
    """Return `flash_attn.flash_attn_func`.

    Raises:
        MissingDependencyError: The package is not installed, or was built for another PyTorch and
            does not load.
    """
    try:
        from flash_attn import flash_attn_func
    except ImportError as error:
        raise MissingDependencyError(
            "the attention backend `flash` needs the package flash-attn",
            where="attention flash",
            expected="flash-attn 2.4 or newer, built for the installed PyTorch",
            found=f"{type(error).__name__}: {error}",
            fix="pip install 'vintix[flash]' --no-build-isolation, "
            "or --set train.attention=flex, which needs no package",
        ) from error
    function: Callable[..., Tensor] = flash_attn_func
    return function


def attend_flash(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    window: int | None,
    dropout: float,
    score_bound: float | None,
    cache: AttentionCache,
) -> Tensor:
    """Call the kernel in its own conventions: (B, L, H, K), float32 slopes, left and right window.

    Raises:
        MissingDependencyError: As :func:`flash_function`.
    """
    device = q_BHLK.device
    slopes = cache.keep(
        ("flash slopes", tuple(slopes_H.tolist()), device),
        lambda: slopes_H.to(device, torch.float32),
    )
    out_BLHK = flash_function()(
        q_BHLK.transpose(1, 2),
        k_BHLK.transpose(1, 2),
        v_BHLK.transpose(1, 2),
        dropout_p=dropout,
        causal=True,
        # Keys to the left of the query, itself not counted; -1 is no limit.
        window_size=(-1 if window is None else window - 1, 0),
        alibi_slopes=slopes,
        # Sums of gradients in a fixed order: a resumed run repeats an uninterrupted one.
        deterministic=True,
    )
    return out_BLHK.transpose(1, 2)
