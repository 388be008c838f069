"""Which backend serves a device and a floating type, and what to say when one cannot.

| backend | device | types | needs |
|---|---|---|---|
| `flash` | CUDA, compute capability 8.0 or more | float16, bfloat16 | the package flash-attn |
| `flex` | CUDA; on the CPU without gradients | all but float64 on CUDA | Triton |
| `blocked` | any | any | nothing |
| `reference` | any | any | nothing, but memory of L x L |

`auto` takes the first of `flash`, `flex` and `blocked` that can serve.
"""

from __future__ import annotations

import importlib.util

import torch

from pipelines.errors import ConfigError, MissingDependencyError, VintixError, unknown
from pipelines.model.attention.flash import flash_function

#: Names of the backends, fastest first; `reference` is never chosen unasked.
NAMES = ("flash", "flex", "blocked", "reference")

_FLASH_HEAD_DIM = 256
_FLASH_CAPABILITY = (8, 0)
_HALF = (torch.float16, torch.bfloat16)


def select_backend(
    device: torch.device | str,
    dtype: torch.dtype,
    requested: str = "auto",
    *,
    training: bool = True,
    dropout: float = 0.0,
    head_dim: int | None = None,
) -> str:
    """Return the backend that is to serve queries, keys and values of a device and type.

    Args:
        dtype: Their type; under autocast that of autocast.
        requested: A backend, or `auto` for the fastest that can serve.
        dropout: Probability of dropping an attention weight.
        head_dim: Channels of a head, if known.

    Raises:
        ConfigError: There is no backend of that name, or it cannot serve the device, type,
            dropout or head size.
        MissingDependencyError: It could, but a package it needs is not there.
    """
    check_backend(requested)
    device = torch.device(device)
    on_cuda = ("flash", "flex") if device.type == "cuda" else ()
    for name in on_cuda if requested == "auto" else (requested,):
        try:
            if name == "flash":
                _check_flash(device, dtype, head_dim)
            elif name == "flex":
                _check_flex(device, dtype, training, dropout)
        except VintixError:
            if requested != "auto":
                raise
        else:
            return name
    return "blocked"


def check_backend(name: str) -> str:
    """Return a name, which is `auto` or a backend's.

    Raises:
        ConfigError: It is neither.
    """
    if name != "auto" and name not in NAMES:
        raise unknown(
            "there is no such attention backend",
            name,
            ["auto", *NAMES],
            kind=ConfigError,
            where="train.attention",
            expected=", ".join(["auto", *NAMES]),
            fix="choose one of the backends above",
        )
    return name


def _check_flash(device: torch.device, dtype: torch.dtype, head_dim: int | None) -> None:
    if device.type != "cuda":
        raise _unfit("flash", "a CUDA device", device.type, "--set train.attention=blocked")
    if dtype not in _HALF:
        raise _unfit(
            "flash",
            "float16 or bfloat16",
            _name(dtype),
            "--set train.precision=bfloat16, or --set train.attention=flex",
        )
    if head_dim is not None and head_dim > _FLASH_HEAD_DIM:
        raise _unfit(
            "flash",
            f"at most {_FLASH_HEAD_DIM} channels a head",
            head_dim,
            "--set train.model.heads=N with more heads, or --set train.attention=flex",
        )
    capability = _cuda_capability(device)
    if capability is not None and capability < _FLASH_CAPABILITY:
        raise _unfit(
            "flash",
            "a GPU of compute capability 8.0 or more",
            "{}.{}".format(*capability),
            "--set train.attention=flex",
        )
    flash_function()


def _check_flex(device: torch.device, dtype: torch.dtype, training: bool, dropout: float) -> None:
    if device.type == "cpu" and training:
        raise _unfit(
            "flex",
            "a CUDA device, since PyTorch's FlexAttention has no backward pass on the CPU",
            device.type,
            "--set train.attention=blocked",
        )
    if device.type not in ("cpu", "cuda"):
        raise _unfit("flex", "a CUDA device", device.type, "--set train.attention=blocked")
    if dropout > 0:
        raise _unfit(
            "flex",
            "attention_dropout = 0, since FlexAttention cannot drop attention weights",
            dropout,
            "--set train.attention=blocked",
        )
    if device.type == "cuda" and dtype == torch.float64:
        raise _unfit(
            "flex", "float32, float16 or bfloat16", _name(dtype), "--set train.attention=blocked"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise MissingDependencyError(
            "the attention backend `flex` needs Triton, which compiles its kernels",
            where="train.attention",
            expected="the package triton, a part of PyTorch's CUDA builds for Linux",
            found="no package triton",
            fix="vintix train ... --set train.attention=blocked, or install PyTorch for CUDA",
        )


def _unfit(name: str, expected: object, found: object, fix: str) -> ConfigError:
    return ConfigError(
        f"the attention backend `{name}` cannot serve this run",
        where="train.attention",
        expected=expected,
        found=found,
        fix=f"vintix train ... {fix}",
    )


def _cuda_capability(device: torch.device) -> tuple[int, int] | None:
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_capability(device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
