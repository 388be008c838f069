"""Every model that the released configuration can express, also those without recorded outputs.

The expected values come from `plain_reference`, a second implementation, which is itself held
against the recorded outputs of the released code where there are any.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import pairwise

from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.model.official import empty_model, fill_model, official_config, translate
from pipelines.model.vintix import Vintix

from .plain_reference import PlainModel, slopes

ATOL = 2e-5
LENGTH = 13
CONTEXT = 8

BASE: dict[str, Any] = {
    "context_len": CONTEXT,
    "action_emb_dim": 11,
    "observation_emb_dim": 11,
    "reward_emb_dim": 2,
    "hidden_dim": 24,
    "transformer_depth": 2,
    "transformer_heads": 4,
    "attn_dropout": 0,
    "residual_dropout": 0,
    "normalize_qk": True,
    "bias": True,
    "parallel_residual": False,
    "shared_attention_norm": False,
    "norm_class": "LayerNorm",
    "mlp_class": "GptNeoxMLP",
    "intermediate_size": 40,
    "inner_ep_pos_enc": False,
    "norm_acs": False,
    "norm_obs": True,
}

AXES: dict[tuple[str, ...], tuple[tuple[Any, ...], ...]] = {
    ("norm_class",): (("LayerNorm",), ("RMSNorm",)),
    ("mlp_class",): (("GptNeoxMLP",), ("LLaMAMLP",)),
    # The released code fails on a shared norm without parallel residuals.
    ("parallel_residual", "shared_attention_norm"): ((False, False), (True, False), (True, True)),
    ("normalize_qk",): ((True,), (False,)),
    ("bias",): ((True,), (False,)),
    ("norm_acs",): ((False,), (True,)),
    ("norm_obs",): ((True,), (False,)),
    ("inner_ep_pos_enc",): ((False,), (True,)),
    ("transformer_heads",): ((4,), (6,)),
}

#: The variants for which the released code was run, but no outputs are given.
NAMED = {
    "inner_ep": {"inner_ep_pos_enc": True},
    "parallel": {"parallel_residual": True},
    "parallel_shared": {"parallel_residual": True, "shared_attention_norm": True},
    "plain": {
        "normalize_qk": False,
        "bias": False,
        "norm_obs": False,
        "transformer_heads": 6,
    },
}


def metadata() -> dict[str, Any]:
    rng = np.random.default_rng(11)

    def entry(group: str, observations: int, actions: int, scale: float) -> dict[str, Any]:
        def draw(size: int) -> np.ndarray:
            return rng.normal(size=size).astype(np.float32)

        std = np.abs(draw(observations)) + np.float32(0.2)
        # A constant channel: only the epsilon keeps it finite.
        std[-1] = 0.0
        mean = draw(observations)
        return {
            "observation_shape": {"proprio": [observations]},
            "action_dim": actions,
            "action_type": "continuous",
            "group_name": group,
            "reward_scale": scale,
            "obs_mean": mean.tolist(),
            "obs_std": std.tolist(),
            "acs_mean": draw(actions).tolist(),
            "acs_std": (np.abs(draw(actions)) + np.float32(0.2)).tolist(),
        }

    return {
        "one": entry("a", 5, 2, 0.1),
        "two": entry("a", 5, 2, 3.0),
        "three": entry("b", 3, 1, 1.0),
    }


METADATA = metadata()


def sequence(task: str, seed: int, steps: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """A sequence that begins within an episode and holds the starts of two."""
    rng = np.random.default_rng(seed)
    entry = METADATA[task]
    observations, actions = entry["observation_shape"]["proprio"][0], entry["action_dim"]
    observation = rng.normal(size=(LENGTH, observations)).astype(np.float32)
    # A channel of deviation 0 stays at its mean, as it does in the data the deviation is from.
    observation[:, -1] = np.float32(entry["obs_mean"][-1])
    counted = np.array([3, 4, 5, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    return {
        "observation": observation,
        "prev_action": rng.normal(size=(LENGTH, actions)).astype(np.float32),
        "prev_reward": rng.normal(size=(LENGTH, 1)).astype(np.float32),
        "step_num": counted if steps is None else steps,
    }


def weights_of(config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Random weights in which every norm and bias matters, enlarged so that mistakes show."""
    with torch.device("meta"):
        shapes = {
            name: value.shape
            for name, value in Vintix(official_config(config, METADATA)).state_dict().items()
        }
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 2 and "padding" not in name and "pos_emb" not in name:
            values *= 1.5 / shape[1] ** 0.5
        elif name.endswith("weight") and "pos_emb" not in name:
            values = 1 + 0.3 * values
        else:
            values *= 0.5
        weights[name] = values
    return weights


def ours(config: dict[str, Any], weights: dict[str, torch.Tensor], attention: str = "auto"):
    architecture, tasks = translate(config, METADATA, "released")
    model = empty_model(architecture, "model.pth", attention=attention)
    return fill_model(model, weights, "model.pth"), tasks


def batches(model: Vintix, tasks: dict[str, Any], sequences: list[tuple[str, dict[str, Any]]]):
    return group_sequences(
        model.config,
        [
            TaskSequence(
                tasks[name].group,
                tasks[name].statistics,
                *(
                    torch.from_numpy(each[field])
                    for field in ("observation", "prev_action", "prev_reward", "step_num")
                ),
            )
            for name, each in sequences
        ],
    )


def compare(config: dict[str, Any], seed: int, attention: str = "auto") -> float:
    """Compare predictions of one batch of all tasks; returns the largest difference."""
    weights = weights_of(config, seed)
    model, tasks = ours(config, weights, attention)
    sequences = [(name, sequence(name, seed + index)) for index, name in enumerate(METADATA)]
    reference = PlainModel(config, METADATA, weights)
    grouped, places = batches(model, tasks, sequences)
    worst = 0.0
    with torch.no_grad():
        predictions = model(grouped)
    for prediction, members in zip(predictions, places, strict=True):
        for row, index in zip(prediction.numpy(), members, strict=True):
            expected = reference.forward(*sequences[index])
            np.testing.assert_allclose(row, expected, atol=ATOL, rtol=ATOL)
            worst = max(worst, float(np.abs(row - expected).max()))
    return worst


@pytest.mark.parametrize("variant", ["base", "norm_acs", "rms_llama"])
@pytest.mark.parametrize("kind", ["full", "short"])
def test_the_reference_equals_the_released_outputs(
    conformance: Path, variant: str, kind: str
) -> None:
    """Where outputs are recorded, so that it can be trusted where they are not."""
    folder = conformance / variant
    config = json.loads((folder / "ckpt" / "config.json").read_text())
    entries = json.loads((folder / "ckpt" / "metadata.json").read_text())
    weights = torch.load(folder / "ckpt" / "model.pth", weights_only=True)
    model = PlainModel(config, entries, weights)
    batch = np.load(folder / f"batch_{kind}.npz")
    expected = np.load(folder / f"forward_{kind}.npz")
    for index, task in enumerate(batch["tasks"]):
        fields = ("observation", "prev_action", "prev_reward", "step_num")
        found = model.forward(str(task), {name: batch[f"{index}/{name}"] for name in fields})
        np.testing.assert_allclose(found, expected[f"{index}/pred"], atol=ATOL, rtol=0)


def test_the_reference_equals_the_released_tokens(conformance: Path) -> None:
    folder = conformance / "base"
    config = json.loads((folder / "ckpt" / "config.json").read_text())
    entries = json.loads((folder / "ckpt" / "metadata.json").read_text())
    weights = torch.load(folder / "ckpt" / "model.pth", weights_only=True)
    model = PlainModel(config, entries, weights)
    batch = np.load(folder / "batch_full.npz")
    expected = np.load(folder / "tokens_full.npz")["tokens"]
    for index, task in enumerate(batch["tasks"]):
        fields = ("observation", "prev_action", "prev_reward", "step_num")
        found = model.tokens(str(task), {name: batch[f"{index}/{name}"] for name in fields})
        np.testing.assert_allclose(found, expected[index], atol=ATOL, rtol=0)


@pytest.mark.parametrize("attention", ["blocked", "reference"])
@pytest.mark.parametrize("name", NAMED)
def test_variants_without_recorded_outputs(name: str, attention: str) -> None:
    compare({**BASE, **NAMED[name]}, seed=21, attention=attention)


@pytest.mark.parametrize(
    ("combine", "count"),
    [(pairwise, None), pytest.param(itertools.product, 768, marks=pytest.mark.slow)],
    ids=["pairs", "all"],
)
def test_combinations_of_their_configuration(combine: Any, count: int | None) -> None:
    """Each predicts what the plain reference does, to 2e-5: any two settings, and all of them."""
    combinations = [
        dict(zip(itertools.chain(*AXES), itertools.chain(*values), strict=True))
        for values in combine(*AXES.values())
    ]
    assert count is None or len(combinations) == count
    for seed, changes in enumerate(combinations):
        try:
            compare({**BASE, **changes}, seed)
        except AssertionError as error:
            raise AssertionError(f"{changes}: {error}") from error


@pytest.mark.parametrize("change", [{**each} for each in NAMED.values()])
def test_each_variant_is_a_model_of_its_own(change: dict[str, Any]) -> None:
    """With the same weights a switch moves the output by far more than the tolerance."""
    config = {**BASE, **change}
    plain, tasks = ours(BASE, weights_of(BASE, 5))
    changed_config = official_config(config, METADATA)
    varied = Vintix(changed_config)
    shared = plain.state_dict() | {}
    own = varied.state_dict()
    generator = torch.Generator().manual_seed(1)
    varied.load_state_dict(
        {
            name: shared.get(name, 0.5 * torch.randn(value.shape, generator=generator))
            for name, value in own.items()
        }
    )
    sequences = [("one", sequence("one", 3))]
    with torch.no_grad():
        first = plain(batches(plain, tasks, sequences)[0])[0]
        second = varied.eval()(batches(varied, tasks, sequences)[0])[0]
    assert (first - second).abs().max() > 1e-2


def test_steps_beyond_their_position_table_use_its_last_row() -> None:
    """Quirk 10: theirs clamps to one past the end and fails; ours and the reference do not."""
    config = {**BASE, "inner_ep_pos_enc": True}
    weights = weights_of(config, 2)
    model, tasks = ours(config, weights)
    reference = PlainModel(config, METADATA, weights)
    late = sequence("one", 4, steps=np.arange(9_993, 9_993 + LENGTH))
    with torch.no_grad():
        found = model(batches(model, tasks, [("one", late)])[0])[0][0].numpy()
    np.testing.assert_allclose(found, reference.forward("one", late), atol=ATOL, rtol=ATOL)
    other = {**late, "step_num": np.minimum(late["step_num"], 9_998)}
    assert np.abs(reference.forward("one", other) - reference.forward("one", late)).max() > 1e-3


@pytest.mark.parametrize("name", ["base", *NAMED])
def test_cached_steps_equal_the_reference_while_the_context_lasts(name: str) -> None:
    """One token at a time through the cache gives what one pass over all of them does."""
    config = {**BASE, **NAMED.get(name, {}), "context_len": LENGTH}
    weights = weights_of(config, 9)
    model, tasks = ours(config, weights)
    whole = sequence("two", 6)
    expected = PlainModel(config, METADATA, weights).forward("two", whole)
    cache = model.make_cache(1)
    for step in range(LENGTH):
        part = {field: values[step : step + 1] for field, values in whole.items()}
        action = model.step(batches(model, tasks, [("two", part)])[0], cache)[0][0]
        np.testing.assert_allclose(action.numpy(), expected[step], atol=ATOL, rtol=ATOL)


def test_slopes_of_numbers_that_are_no_power_of_two() -> None:
    assert slopes(4) == [2**-2, 2**-4, 2**-6, 2**-8]
    assert slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
