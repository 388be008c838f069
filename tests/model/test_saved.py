"""Models in checkpoints artifacts: what is read back, of every layout that was ever written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError
from pipelines.model.saved import SavedModel, layout, load_model, save_model
from tests.rollout.toy import tiny_model


def publish(root, fill):
    with Workspace(root).stage("checkpoints", "one", config={}) as staging:
        with staging.work_item("model") as unit:
            fill(unit)
        return staging.publish(summary={})


def saved(**changes):
    model = SavedModel(tiny_model(), {}, step=7, method="ad")
    return lambda unit: save_model(unit, model, **changes)


def weights(model):
    return {name: one.detach().numpy() for name, one in model.named_parameters()}


def test_weights_come_back_bit_for_bit_in_one_file(tmp_path):
    """However many parameters a model has, its weights are one array."""
    artifact = publish(tmp_path, saved())
    back = weights(load_model(artifact).model)
    for name, values in weights(tiny_model()).items():
        assert np.array_equal(back[name], values), name
    assert len(artifact.manifest.files) <= 6


def test_half_precision_is_read_as_float32(tmp_path):
    """float16 keeps eleven significant bits and halves the file."""
    back = weights(load_model(publish(tmp_path, saved(dtype=np.float16))).model)
    for name, values in weights(tiny_model()).items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], values.astype(np.float16).astype(np.float32)), name


def test_one_array_a_parameter_is_still_read(tmp_path):
    """Schema version 1 had a group of arrays where there is one flat array now."""
    model = tiny_model()

    def first_schema(unit):
        attributes = {"config": model.config.model_dump(mode="json"), "step": 7, "method": "ad"}
        unit.group("model", {**attributes, "tasks": {}})
        group = unit.group("model/weights")
        for name, values in weights(model).items():
            one = create_rows(
                group, name, values.shape, values.dtype, chunk_rows=len(values), mapped=True
            )
            one[...] = values

    back = weights(load_model(publish(tmp_path, first_schema)).model)
    for name, values in weights(model).items():
        assert np.array_equal(back[name], values), name


@pytest.mark.parametrize("damage", ["fewer", "renamed", "longer"])
def test_weights_of_another_architecture_are_refused(tmp_path, damage):
    """What the artifact says of its parameters has to fit its configuration and its array."""
    model = tiny_model()
    parameters = layout(model)
    total = sum(size for _, size in parameters)
    if damage == "fewer":
        parameters = parameters[:-1]
    if damage == "renamed":
        parameters[0] = ["other", parameters[0][1]]

    def fill(unit):
        attributes = {"config": model.config.model_dump(mode="json"), "step": 7, "method": "ad"}
        group = unit.group("model", {**attributes, "tasks": {}, "parameters": parameters})
        write_array(group, "weights", np.zeros(total + (damage == "longer"), np.float32))

    with pytest.raises(ArtifactCorruptError):
        load_model(publish(tmp_path, fill))


def test_given_weights_are_what_is_written(tmp_path):
    """A model whose parameters are sharded is saved from its gathered weights."""
    parts = {}
    for place, (name, size) in enumerate(layout(tiny_model())):
        parts[name] = torch.full((size,), float(place))
    given = torch.cat(list(parts.values())).numpy()
    back = load_model(publish(tmp_path, saved(weights_N=given))).model
    for name, one in back.named_parameters():
        assert torch.equal(one.detach().reshape(-1), parts[name]), name
