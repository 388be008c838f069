"""Which attention backend serves what, what is said when one cannot, and how flash is called."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from pipelines.errors import ConfigError, MissingDependencyError
from pipelines.model.attention import attend, selection
from pipelines.model.attention import flash as flash_module
from pipelines.model.attention.alibi import AttentionCache, alibi_slopes
from pipelines.model.attention.selection import check_backend, select_backend

CUDA = torch.device("cuda")
CPU = torch.device("cpu")
HALF = torch.bfloat16


class FakeKernel:
    """Stands for flash_attn_func: keeps what it was called with, computes the reference."""

    def __init__(self) -> None:
        self.args: tuple[torch.Tensor, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *args: torch.Tensor, **options: Any) -> torch.Tensor:
        self.args, self.options = args, options
        q, k, v = (tensor.transpose(1, 2).double() for tensor in args)
        left = options["window_size"][0]
        out = attend(
            q,
            k,
            v,
            options["alibi_slopes"].double(),
            backend="reference",
            window=None if left < 0 else left + 1,
        )
        return out.to(args[0].dtype).transpose(1, 2)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """The kernel of a package flash_attn that is installed for the test's duration."""
    package, kernel = ModuleType("flash_attn"), FakeKernel()
    package.flash_attn_func = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    return kernel


@pytest.fixture
def no_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes the import fail, whatever is installed.
    monkeypatch.setitem(sys.modules, "flash_attn", None)


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Whether Triton is found: true unless the test says otherwise."""
    installed = {"triton": True}
    find = importlib.util.find_spec

    def find_spec(name: str) -> object:
        if name == "triton":
            return object() if installed["triton"] else None
        return find(name)

    monkeypatch.setattr(selection.importlib.util, "find_spec", find_spec)
    yield installed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, HALF])
def test_auto_on_the_cpu_is_blocked(dtype: torch.dtype) -> None:
    assert select_backend(CPU, dtype) == "blocked"
    assert select_backend("cpu", dtype, training=False) == "blocked"


def test_auto_on_cuda_prefers_flash_then_flex_then_blocked(
    kernel: FakeKernel, triton: dict[str, bool]
) -> None:
    assert select_backend(CUDA, HALF) == "flash"
    assert select_backend(CUDA, torch.float32) == "flex"
    assert select_backend(CUDA, torch.float64) == "blocked"
    assert select_backend(CUDA, HALF, head_dim=512) == "flex"
    assert select_backend(CUDA, torch.float32, dropout=0.1) == "blocked"
    assert select_backend(CUDA, HALF, dropout=0.1) == "flash"
    triton["triton"] = False
    assert select_backend(CUDA, torch.float32) == "blocked"


def test_auto_on_cuda_without_the_package_is_flex(no_flash: None, triton: dict[str, bool]) -> None:
    assert select_backend(CUDA, HALF) == "flex"


def test_auto_passes_over_flash_on_an_old_gpu(
    kernel: FakeKernel, triton: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_cuda_capability", lambda device: (7, 5))
    assert select_backend(CUDA, HALF) == "flex"
    with pytest.raises(ConfigError, match=r"(?s)capability 8\.0.*found: 7\.5"):
        select_backend(CUDA, HALF, "flash")


def test_what_is_asked_for_is_taken(kernel: FakeKernel, triton: dict[str, bool]) -> None:
    for name in ("flash", "flex", "blocked", "reference"):
        assert select_backend(CUDA, HALF, name) == name
    for name in ("blocked", "reference"):
        assert select_backend(CPU, torch.float32, name) == name
    assert select_backend(CPU, torch.float32, "flex", training=False) == "flex"


def test_an_unknown_backend_is_named_with_the_known_ones() -> None:
    for call in (check_backend, lambda name: select_backend(CPU, torch.float32, name)):
        with pytest.raises(
            ConfigError, match=r"(?s)auto, flash, flex, blocked, reference.*found: flush"
        ):
            call("flush")
    assert check_backend("auto") == "auto"


@pytest.mark.parametrize(
    ("name", "device", "dtype", "options", "words"),
    [
        ("flash", CPU, HALF, {}, r"(?s)a CUDA device.*found: cpu.*attention=blocked"),
        ("flash", CUDA, torch.float32, {}, r"(?s)found: float32.*precision=bfloat16"),
        ("flash", CUDA, HALF, {"head_dim": 320}, r"(?s)at most 256.*found: 320"),
        ("flex", CPU, torch.float32, {}, r"(?s)no backward pass on the CPU.*attention=blocked"),
        ("flex", CUDA, torch.float64, {}, r"(?s)found: float64"),
        ("flex", CUDA, HALF, {"dropout": 0.1}, r"(?s)cannot drop.*found: 0\.1"),
    ],
)
def test_a_backend_that_cannot_serve_says_why_and_what_can(
    kernel: FakeKernel,
    triton: dict[str, bool],
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    options: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        select_backend(device, dtype, name, **options)
    assert caught.value.exit_code == 3


def test_a_missing_package_is_exit_5_and_names_the_extra(
    no_flash: None, triton: dict[str, bool]
) -> None:
    with pytest.raises(MissingDependencyError, match=r"(?s)flash-attn.*vintix\[flash\]") as caught:
        select_backend(CUDA, HALF, "flash")
    assert caught.value.exit_code == 5
    triton["triton"] = False
    with pytest.raises(MissingDependencyError, match=r"(?s)Triton.*attention=blocked"):
        select_backend(CUDA, HALF, "flex")


def test_a_package_built_for_another_pytorch_is_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, triton: dict[str, bool]
) -> None:
    """Its import fails with the linker's words; they are shown, and `auto` goes on without it."""

    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise ImportError("undefined symbol: _ZN3c105ErrorC2E")

    monkeypatch.setitem(sys.modules, "flash_attn", Broken("flash_attn"))
    with pytest.raises(MissingDependencyError, match="undefined symbol"):
        select_backend(CUDA, HALF, "flash")
    assert select_backend(CUDA, HALF) == "flex"


def test_attend_refuses_flex_where_gradients_are_needed() -> None:
    q, k, v = torch.randn(3, 1, 2, 8, 4).unbind(0)
    with pytest.raises(ConfigError, match="no backward pass on the CPU"):
        attend(q.requires_grad_(), k, v, alibi_slopes(2), backend="flex")
    with torch.no_grad():
        assert attend(q, k, v, alibi_slopes(2), backend="flex").shape == q.shape


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("dtype", [torch.float16, HALF])
def test_flash_is_called_in_its_own_conventions(
    kernel: FakeKernel, window: int | None, dtype: torch.dtype
) -> None:
    """(B, L, H, K) tensors, float32 slopes of shape (H,), keys to the left without the query."""
    q, k, v = torch.randn(3, 2, 6, 20, 8, dtype=torch.float64).to(dtype).unbind(0)
    slopes, cache = alibi_slopes(6), AttentionCache()
    out = flash_module.attend_flash(
        q, k, v, slopes, window=window, dropout=0.25, score_bound=None, cache=cache
    )
    for given, ours in zip(kernel.args, (q, k, v), strict=True):
        assert given.dtype == dtype
        assert torch.equal(given, ours.transpose(1, 2))
        assert given.stride(-1) == 1
    given_slopes = kernel.options.pop("alibi_slopes")
    assert given_slopes.dtype == torch.float32
    assert given_slopes.tolist() == slopes.float().tolist()
    assert kernel.options == {
        "dropout_p": 0.25,
        "causal": True,
        "window_size": (-1 if window is None else window - 1, 0),
        "deterministic": True,
    }
    assert (out.shape, out.dtype) == (q.shape, dtype)
    expected = attend(q, k, v, slopes, backend="reference", window=window)
    torch.testing.assert_close(out, expected, atol=4e-2, rtol=4e-2)


def test_flash_slopes_go_to_the_device_once(kernel: FakeKernel) -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8).bfloat16().unbind(0)
    cache, seen = AttentionCache(), []
    for _ in range(2):
        flash_module.attend_flash(
            q, k, v, alibi_slopes(2), window=None, dropout=0.0, score_bound=None, cache=cache
        )
        seen.append(kernel.options["alibi_slopes"])
    assert seen[0] is seen[1]
