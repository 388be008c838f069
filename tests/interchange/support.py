"""Checkpoints in the authors' layout, made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.model.official import official_config
from pipelines.model.vintix import Vintix

CONFIG: dict[str, Any] = {
    "data_dir": "somewhere",
    "context_len": 24,
    "trajectory_sparsity": 257,
    "action_emb_dim": 15,
    "observation_emb_dim": 15,
    "reward_emb_dim": 2,
    "hidden_dim": 32,
    "transformer_depth": 1,
    "transformer_heads": 2,
    "attn_dropout": 0,
    "residual_dropout": 0,
    "normalize_qk": True,
    "bias": True,
    "parallel_residual": False,
    "shared_attention_norm": False,
    "norm_class": "LayerNorm",
    "mlp_class": "GptNeoxMLP",
    "intermediate_size": None,
    "inner_ep_pos_enc": False,
    "norm_acs": False,
    "norm_obs": True,
    "lr": 0.0003,
    "nothing we know": {"kept": [1.5, None, "ü"]},
}


def task(observation_dim: int, action_dim: int, group: str, seed: int = 0) -> dict[str, Any]:
    """Return a task's entry of `metadata.json`."""
    rng = np.random.default_rng(seed)

    def vector(size: int, positive: bool = False) -> list[float]:
        values = rng.normal(size=size).astype(np.float32)
        return (np.abs(values) + np.float32(0.1) if positive else values).tolist()

    return {
        "observation_shape": {"proprio": [observation_dim]},
        "action_dim": action_dim,
        "action_type": "continuous",
        "group_name": group,
        "reward_scale": 0.1,
        "obs_mean": vector(observation_dim),
        "obs_std": vector(observation_dim, positive=True),
        "acs_mean": vector(action_dim),
        "acs_std": vector(action_dim, positive=True),
    }


def write_official(
    folder: Path, metadata: dict[str, Any], dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """Write a checkpoint folder with random weights."""
    config = {**CONFIG, **changes}
    folder.mkdir(parents=True)
    model = Vintix(official_config(config, metadata), seed=3)
    weights = {name: value.to(dtype) for name, value in model.state_dict().items()}
    torch.save(weights, folder / "model.pth")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
