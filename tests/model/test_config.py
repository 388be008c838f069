"""Configurations that cannot work are refused in words; presets have the published size."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from pipelines.errors import ConfigError, UsageError
from pipelines.model.config import GroupDims, ModelConfig
from pipelines.model.presets import PRESETS, parameter_count, preset
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]

MUJOCO_V5 = {
    "ant": (105, 8),
    "cheetah": (17, 6),
    "hopper": (11, 3),
    "humanoid": (348, 17),
    "standup": (348, 17),
    "double-pendulum": (9, 1),
    "pendulum": (4, 1),
    "pusher": (23, 7),
    "reacher": (10, 2),
    "swimmer": (8, 2),
    "walker": (17, 6),
}
MUJOCO_V4 = {
    **MUJOCO_V5,
    "ant": (27, 8),
    "humanoid": (376, 17),
    "standup": (376, 17),
    "double-pendulum": (11, 1),
    "reacher": (11, 2),
}
OTHERS = {
    "metaworld": (39, 4),
    "industrial-benchmark": (6, 3),
    # Two orders of the same channels: doors, and hands with points.
    "doors": (417, 52),
    "points": (417, 52),
    "bottle": (420, 52),
    "reorientation": (422, 40),
    "catch": (422, 52),
    "bucket": (425, 52),
    "blocks": (428, 52),
    "two-catch": (446, 52),
}


def dims(groups: dict[str, tuple[int, int]]) -> dict[str, GroupDims]:
    return {
        name: GroupDims(observation_dim=observation, action_dim=action)
        for name, (observation, action) in groups.items()
    }


@pytest.mark.parametrize(
    ("mujoco", "expected"), [(MUJOCO_V5, 332_110_477), (MUJOCO_V4, 332_100_768)]
)
def test_paper_preset_has_the_published_number_of_parameters(
    mujoco: dict[str, tuple[int, int]], expected: int
) -> None:
    """Table 2 prints 332,100,768: the count with Gymnasium v4 dims; Table G's dims are v5's."""
    groups = dims({**OTHERS, **mujoco})
    assert len(groups) == 21
    assert parameter_count(preset("paper", groups)) == expected


def test_the_groups_counted_cover_the_dims_of_the_papers_tables(paper_tables: Path) -> None:
    """All dims of Tables 4 to 6 but Hand-Over's, which is not trained on."""
    with (paper_tables / "dataset.csv").open(newline="") as file:
        published = {
            (int(row["observation_dim"]), int(row["action_dim"])) for row in csv.DictReader(file)
        }
    assert published - {(398, 40)} == {*MUJOCO_V5.values(), *OTHERS.values()}


def test_counting_parameters_equals_making_the_model(config: MakeConfig) -> None:
    for fields in ({}, {"mlp": "llama", "norm": "rmsnorm"}, {"inner_episode_position": True}):
        made = sum(parameter.numel() for parameter in Vintix(config(**fields)).parameters())
        assert parameter_count(config(**fields)) == made


def test_a_preset_takes_overrides_and_checks_them() -> None:
    assert preset("tiny", dims(OTHERS), context=64).context == 64
    with pytest.raises(ConfigError, match="do not fill its width"):
        preset("tiny", dims(OTHERS), width=256)
    with pytest.raises(UsageError, match=r"(?s)tiny, small, base, paper.*found: huge"):
        preset("huge", dims(OTHERS))
    assert set(PRESETS) == {"tiny", "small", "base", "paper"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 40}, r"(?s)do not fill its width.*= 32.*found: 40"),
        ({"heads": 5}, r"(?s)not a multiple.*a divisor of 32.*found: 5"),
        ({"shared_attention_norm": True}, r"(?s)shared.*parallel_residual = true"),
        ({"groups": {}}, r"(?s)at least 1 item.*model\.groups"),
        ({"layers": 0}, r"(?s)greater than or equal to 1.*model\.layers.*found: 0"),
        ({"attention_dropout": 1.0}, r"(?s)less than 1.*attention_dropout"),
        ({"norm": "batchnorm"}, r"(?s)layernorm.*model\.norm.*batchnorm"),
        ({"depth": 3}, r"(?s)unknown setting.*model\.depth"),
        ({"groups": {"a.b": {"observation_dim": 1, "action_dim": 1}}}, r"(?s)dot.*'a\.b'"),
        ({"groups": {"": {"observation_dim": 1, "action_dim": 1}}}, "empty"),
        (
            {"groups": {"a": {"observation_dim": 0, "action_dim": 1}}},
            r"(?s)model\.groups\.a\.observation_dim.*found: 0",
        ),
    ],
)
def test_a_configuration_that_cannot_work_says_why(
    config: MakeConfig, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config(**fields)
    assert caught.value.exit_code == 3


def test_a_configuration_is_frozen_and_survives_json(config: MakeConfig) -> None:
    made = config(mlp="llama", bias=False)
    assert ModelConfig.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError):
        made.layers = 3  # type: ignore[misc]


def test_a_configuration_nests_in_another(config: MakeConfig) -> None:
    class Run(BaseModel):
        model: ModelConfig

    made = config()
    assert Run(model=made).model == made
    assert Run.model_validate({"model": made.model_dump()}).model == made


@pytest.mark.process
def test_importing_the_configuration_does_not_import_torch() -> None:
    """The command line reads configurations and presets at start."""
    import subprocess
    import sys

    code = (
        "import sys, pipelines.model.config, pipelines.model.presets;"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    assert torch.__name__ in sys.modules
