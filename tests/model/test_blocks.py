"""The bound on attention scores holds, and is not read where it cannot be had cheaply."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipelines.model.backbones import transformer as transformer_module
from pipelines.model.backbones.transformer import SelfAttention
from pipelines.model.batch import GroupBatch
from pipelines.model.config import ModelConfig
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]


def randomise(attention: SelfAttention, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(5))
def test_no_score_exceeds_the_bound(config: MakeConfig, seed: int, dtype: torch.dtype) -> None:
    """For random norms and inputs that reach far, also when queries and keys are rounded."""
    attention = SelfAttention(config())
    randomise(attention, seed)
    scores = []

    def mixer(q, k, v, score_bound):
        q, k = q.to(dtype).double(), k.to(dtype).double()
        scores.append((q @ k.transpose(-1, -2) / 8**0.5).abs().max().item())
        return v

    attention(torch.randn(4, 300, 32, generator=torch.Generator().manual_seed(seed)), mixer)
    bound = attention.score_bound()
    assert bound is not None
    assert 0.2 * bound < scores[0] <= bound


def test_there_is_no_bound_without_norms_or_off_the_cpu(config: MakeConfig) -> None:
    assert SelfAttention(config(qk_norm=False)).score_bound() is None
    assert SelfAttention(config()).to("meta").score_bound() is None


def test_the_bound_changes_no_output_beyond_rounding(
    config: MakeConfig, batch: Callable[..., GroupBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole model over several blocks of rows, against the same one with all keys computed."""
    model = Vintix(config(heads=8)).eval()
    whole = [batch("reach", 2, 1100)]
    bounds: list[float | None] = []
    plain = transformer_module.attend

    def spy(*args: torch.Tensor, score_bound: float | None, **options: object) -> torch.Tensor:
        bounds.append(score_bound)
        return plain(*args, score_bound=None, **options)

    with torch.no_grad():
        found = model(whole)[0]
        monkeypatch.setattr(transformer_module, "attend", spy)
        expected = model(whole)[0]
    assert None not in bounds and len(bounds) == 2
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
