"""The released model's forward pass, written a second time: plain, slow, float64, no torch.

Made from the description of the released code alone, and shares nothing with `pipelines.model`.
One sequence at a time, one head at a time, one query at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

EPS = 1e-5
POSITIONS = 10_000

_erf = np.vectorize(math.erf, otypes=[np.float64])


def slopes(heads: int) -> list[float]:
    """ALiBi's slopes: geometric for a power of two, else those of the power below, then every
    second one of the power above."""

    def geometric(count: int) -> list[float]:
        return [2 ** (-8 / count * (head + 1)) for head in range(count)]

    below = 2 ** int(math.log2(heads))
    if below == heads:
        return geometric(heads)
    return geometric(below) + geometric(2 * below)[0::2][: heads - below]


class PlainModel:
    """A released checkpoint.

    Args:
        config: Contents of `config.json`.
        metadata: Contents of `metadata.json`.
        weights: Arrays by the released names.
    """

    def __init__(
        self, config: Mapping[str, Any], metadata: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> None:
        self.config, self.metadata = config, metadata
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def forward(self, task: str, sequence: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the actions (L, A) predicted for a sequence in the environment's units."""
        stream = self.tokens(task, sequence)
        for block in range(self.config["transformer_depth"]):
            stream = self._block(f"transformer.blocks.{block}", stream)
        hidden = self._norm("transformer.ln_f", stream)
        entry = self.metadata[task]
        path = f"head.acs_decoders.{entry['group_name']}.layers"
        for layer in (0, 2, 4):
            hidden = _leaky(self._linear(f"{path}.{layer}", hidden))
        action = self._linear(f"{path}.6", hidden)
        if self.config["norm_acs"]:
            action = action * np.array(entry["acs_std"]) + np.array(entry["acs_mean"])
        return action

    def tokens(self, task: str, sequence: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the tokens (L, D) that go into the transformer."""
        entry = self.metadata[task]
        group = entry["group_name"]
        observation = sequence["observation"].astype(np.float64)
        action = sequence["prev_action"].astype(np.float64)
        reward = sequence["prev_reward"].astype(np.float64).reshape(-1, 1) * entry["reward_scale"]
        if self.config["norm_obs"]:
            observation = (observation - entry["obs_mean"]) / (np.array(entry["obs_std"]) + 1e-6)
        if self.config["norm_acs"]:
            action = (action - entry["acs_mean"]) / (np.array(entry["acs_std"]) + 1e-6)
        embedded = self._vector(f"encoder.obs_encoders.{group}.layers", observation)
        acted = self._vector(f"encoder.acs_encoders.{group}.layers", action)
        rewarded = _leaky(self._linear(f"encoder.rews_encoders.{group}.layers.0", reward))
        tokens = []
        for index, step in enumerate(sequence["step_num"]):
            first = step == 0
            before = self.weights["encoder.prev_acs_padding"][0] if first else acted[index]
            gained = self.weights["encoder.prev_rew_padding"][0] if first else rewarded[index]
            token = np.concatenate([embedded[index], before, gained])
            if self.config["inner_ep_pos_enc"]:
                table = self.weights["encoder.trans_ep_pos_emb.weight"]
                token = token + table[min(int(step), POSITIONS - 1)]
            tokens.append(token)
        return np.array(tokens)

    def _vector(self, path: str, values: np.ndarray) -> np.ndarray:
        for linear, norm in ((0, 2), (3, 5)):
            values = _leaky(self._linear(f"{path}.{linear}", values))
            values = self._layer_norm(f"{path}.{norm}", values)
        return values

    def _block(self, path: str, stream: np.ndarray) -> np.ndarray:
        normed = self._norm(f"{path}.norm1", stream)
        attended = self._attention(f"{path}.attention", normed)
        if self.config["parallel_residual"]:
            shared = self.config["shared_attention_norm"]
            other = normed if shared else self._norm(f"{path}.norm2", stream)
            return stream + attended + self._mlp(f"{path}.mlp", other)
        stream = stream + attended
        return stream + self._mlp(f"{path}.mlp", self._norm(f"{path}.norm2", stream))

    def _attention(self, path: str, normed: np.ndarray) -> np.ndarray:
        heads, width = self.config["transformer_heads"], self.config["hidden_dim"]
        size = width // heads
        projected = self._linear(f"{path}.in_proj", normed)
        out = np.zeros((len(normed), width))
        for head, slope in enumerate(slopes(heads)):
            query, key, value = (
                projected[:, part * width + head * size : part * width + (head + 1) * size]
                for part in range(3)
            )
            if self.config["normalize_qk"]:
                query = self._layer_norm(f"{path}.q_norm", query)
                key = self._layer_norm(f"{path}.k_norm", key)
            for place in range(len(normed)):
                seen = slice(0, place + 1)
                distance = place - np.arange(place + 1)
                scores = key[seen] @ query[place] / math.sqrt(size) - slope * distance
                shares = np.exp(scores - scores.max())
                out[place, head * size : (head + 1) * size] = shares @ value[seen] / shares.sum()
        return self._linear(f"{path}.out_proj", out)

    def _mlp(self, path: str, values: np.ndarray) -> np.ndarray:
        if self.config["mlp_class"] == "LLaMAMLP":
            gate = self._linear(f"{path}.fc_1", values)
            opened = gate / (1 + np.exp(-gate)) * self._linear(f"{path}.fc_2", values)
        else:
            grown = self._linear(f"{path}.fc", values)
            opened = grown * 0.5 * (1 + _erf(grown / math.sqrt(2)))
        return self._linear(f"{path}.proj", opened)

    def _norm(self, path: str, values: np.ndarray) -> np.ndarray:
        if self.config["norm_class"] == "RMSNorm":
            square = (values**2).mean(axis=-1, keepdims=True)
            return values / np.sqrt(square + EPS) * self.weights[f"{path}.weight"]
        return self._layer_norm(path, values)

    def _layer_norm(self, path: str, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPS)
        return scaled * self.weights[f"{path}.weight"] + self.weights[f"{path}.bias"]

    def _linear(self, path: str, values: np.ndarray) -> np.ndarray:
        found = values @ self.weights[f"{path}.weight"].T
        bias = self.weights.get(f"{path}.bias")
        return found if bias is None else found + bias


def _leaky(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.01 * values)
