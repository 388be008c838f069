"""Training against the structure of the released code, and loading against its way of reading.

The baselines are written here after the description of the release, as strong as it can be run
without FlashAttention: a Python loop over sequences with an encoder and a head call each, one
`.item()` a sequence, and PyTorch's fused attention with one mask of causality and ALiBi that is
made once and kept; and HDF5 groups of 10,000 rows that a window reads whole.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.hardware import Hardware, torch_threads
from pipelines.methods import cut_tasks
from pipelines.methods.windows import Window, WindowSampler
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix
from pipelines.train.config import TrainConfig
from pipelines.train.data import select_tasks
from pipelines.train.loader import BatchLoader, MicroBatch
from pipelines.train.loop import Trainer

from .support import paired_ratio, peak_megabytes, show
from .test_dataset_reader import make_dataset

pytestmark = pytest.mark.benchmark

GROUPS = {
    "mw": GroupDims(observation_dim=39, action_dim=4),
    "reacher": GroupDims(observation_dim=10, action_dim=2),
    "ib": GroupDims(observation_dim=6, action_dim=3),
}
MEMBERS = ("mw", "reacher", "mw", "ib")
LENGTH = 1024
HARDWARE = Hardware("cpu", "float32", 1)


def make_sequences():
    """Four sequences of three groups, each as a batch of one."""
    generator = torch.Generator().manual_seed(0)
    sequences = []
    for name in MEMBERS:
        dims = GROUPS[name]

        def normal(*shape):
            return torch.randn(1, LENGTH, *shape, generator=generator)

        sequences.append(
            GroupBatch(
                group=name,
                observation_BLO=normal(dims.observation_dim),
                previous_action_BLA=normal(dims.action_dim),
                previous_reward_BL=normal(),
                episode_step_BL=torch.arange(LENGTH).remainder(100)[None],
                action_BLA=normal(dims.action_dim),
            )
        )
    return sequences


def grouped(sequences):
    """The same sequences as the loader gives them: one batch a group."""
    batches = []
    for name in GROUPS:
        members = [one for one in sequences if one.group == name]
        fields = {
            field: torch.cat([getattr(one, field) for one in members])
            for field, value in vars(members[0]).items()
            if isinstance(value, torch.Tensor)
        }
        batches.append(GroupBatch(group=name, **fields))
    return [MicroBatch(batches, ["bench"] * len(sequences))]


class Released:
    """A training step structured as the released one, with this project's parameters."""

    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
        place = torch.arange(LENGTH)
        distance_LL = (place[:, None] - place[None]).float()
        mask_HLL = -model.transformer.slopes_H.float()[:, None, None] * distance_LL
        # Four axes: with three PyTorch takes its slow path.
        mask_1HLL = mask_HLL.masked_fill(distance_LL < 0, -torch.inf)[None]
        model.transformer._attend = lambda q_BHLK, k_BHLK, v_BHLK, *_: (
            torch.nn.functional.scaled_dot_product_attention(
                q_BHLK, k_BHLK, v_BHLK, attn_mask=mask_1HLL
            )
        )

    def step(self, sequences):
        model = self.model
        tokens = torch.cat([model.encoder(one) for one in sequences])
        hidden = model.transformer(tokens)
        loss, items = 0.0, []
        for row, one in zip(hidden, sequences, strict=True):
            error = model.head.of(one.group).layers(row[None]) - one.action_BLA
            each = error.square().mean()
            items.append(each.item())
            loss = loss + each
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return items


def make_both(name):
    config = preset(name, GROUPS, context=LENGTH)
    ours = Trainer(Vintix(config).train(), TrainConfig(preset=name, batch_size=4), HARDWARE)
    return ours, Released(Vintix(config).train())


@pytest.mark.parametrize(("name", "steps"), [("tiny", 15), ("small", 7)])
def test_a_step_against_the_released_structure(name, steps, capsys):
    """At least 1.15 times its steps per second of processor time, on one thread."""
    sequences = make_sequences()
    micro = grouped(sequences)
    ours, released = make_both(name)
    seconds = {"ours": [], "released": []}
    with torch_threads(1):
        for step in range(steps):
            begin = time.process_time()
            losses = ours.step(step, micro).losses.tolist()
            seconds["ours"].append(time.process_time() - begin)
            begin = time.process_time()
            items = released.step(sequences)
            seconds["released"].append(time.process_time() - begin)
            if step == 0:
                assert sorted(losses) == pytest.approx(sorted(items), rel=1e-4)
    ratio = paired_ratio(seconds["released"], seconds["ours"])
    best = {which: min(each) for which, each in seconds.items()}
    memory = {which: peak_of(step_in_child, name, which) for which in seconds}
    tokens = len(MEMBERS) * LENGTH
    show(
        capsys,
        f"{name}, batch 4, context {LENGTH}, one thread: {tokens / best['ours']:,.0f} tokens/s, "
        f"released structure {tokens / best['released']:,.0f}, ratio {ratio:.2f}; peak memory of "
        f"a step {memory['ours']:,.0f} MB, released structure {memory['released']:,.0f} MB",
    )
    assert ratio >= 1.15
    assert memory["ours"] < 1.2 * memory["released"], "it is about the same"


def step_in_child(name, which):
    sequences = make_sequences()
    micro = grouped(sequences)
    ours, released = make_both(name)
    before = peak_megabytes()
    with torch_threads(1):
        if which == "ours":
            ours.step(0, micro)
        else:
            released.step(sequences)
    return peak_megabytes() - before


def peak_of(function, *arguments):
    """The highest resident memory of one step beyond what was there before, in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


class ReleasedReader:
    """Windows from HDF5 groups of 10,000 rows, each read whole, in the released layout."""

    FIELDS = ("proprio_observation", "action", "reward", "step_num")

    def __init__(self, path, columns):
        h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install vintix[h5]")
        rows = len(columns["action"])
        with h5py.File(path, "w") as file:
            for first in range(0, rows, 10_000):
                last = min(first + 10_000, rows) - 1
                group = file.create_group(f"{first}-{last}")
                for field in self.FIELDS:
                    group[field] = columns[field][first : last + 1]
        self._file = h5py.File(path, "r")

    def window(self, start, length):
        parts = {field: [] for field in self.FIELDS}
        first = start // 10_000
        for place in range(first, (start + length - 1) // 10_000 + 1):
            low = place * 10_000
            for name in self._file:
                if name.startswith(f"{low}-"):
                    for field in self.FIELDS:
                        parts[field].append(self._file[name][field][:])
        offset = start - first * 10_000
        chosen = np.arange(offset, offset + length)
        whole = {field: np.concatenate(each)[chosen] for field, each in parts.items()}
        return {
            "observation": torch.from_numpy(whole["proprio_observation"][1:]),
            "prev_action": torch.from_numpy(whole["action"][:-1]),
            "prev_reward": torch.from_numpy(whole["reward"][:-1]),
            "action": torch.from_numpy(whole["action"][1:]),
            "step_num": torch.from_numpy(whole["step_num"][1:]),
        }


@pytest.mark.parametrize(
    ("observation_dim", "action_dim", "steps", "least"),
    [(39, 4, 300_000, 8), (348, 17, 100_000, 4)],
)
def test_windows_per_second_against_the_released_loader(
    tmp_path, capsys, observation_dim, action_dim, steps, least
):
    """Whole windows of 8192 tokens, in turns, from the page cache; processor time of one core.

    Ours are counted as the training step gets them: read, normalised and stacked.
    """
    context = 8192
    artifact, raw = make_dataset(Workspace(tmp_path), observation_dim, action_dim, steps)
    released = ReleasedReader(
        Path(tmp_path) / "0.h5",
        {
            "proprio_observation": np.array(raw["observation"]),
            "action": np.array(raw["action"]),
            "reward": np.array(raw["reward"]),
            "step_num": np.array(raw["episode_step"]),
        },
    )
    reader = DatasetReader(artifact)
    tasks = select_tasks(reader)
    subsequences = cut_tasks(reader, tasks, context=context)
    sampler = WindowSampler(subsequences, context=context, batch_size=1, seed=0)
    groups = {"g": GroupDims(observation_dim=observation_dim, action_dim=action_dim)}
    loader = BatchLoader(
        reader, tasks, subsequences, sampler, preset("tiny", groups, context=context)
    )
    starts = np.random.default_rng(1).integers(0, steps - context - 1, 24).tolist()
    seconds = {"ours": [], "read": [], "released": []}
    with torch_threads(1):
        for turn in range(7):
            for which, read in (
                ("ours", lambda start: loader.assemble([Window("t", 0, start, 0)])),
                ("read", lambda start: reader.window("t", 0, start, context + 1)),
                ("released", lambda start: released.window(start, context + 1)),
            ):
                begin = time.process_time()
                for start in starts:
                    read(start)
                if turn:
                    seconds[which].append((time.process_time() - begin) / len(starts))
    batch, theirs = (
        loader.assemble([Window("t", 0, 9_000, 0)]).batches[0],
        released.window(9_000, context + 1),
    )
    torch.testing.assert_close(batch.action_BLA[0], theirs["action"])
    torch.testing.assert_close(batch.previous_action_BLA[0], theirs["prev_action"])
    ratio = paired_ratio(seconds["released"], seconds["ours"])
    best = {which: min(each) for which, each in seconds.items()}
    show(
        capsys,
        f"{observation_dim}+{action_dim} dims: {1 / best['ours']:,.0f} windows/s ready for the "
        f"step ({1 / best['read']:,.0f} read only), released loader "
        f"{1 / best['released']:,.0f}, ratio {ratio:.1f}",
    )
    assert ratio >= least


@pytest.mark.slow
def test_one_update_of_the_paper_fits_in_six_gigabytes(capsys):
    """332 M parameters, one AdamW step at context 512 on the CPU; alone on the machine."""
    parameters, loss, gigabytes, seconds = peak_of(paper_in_child)
    show(
        capsys,
        f"paper, {parameters:,} parameters, batch 1, context 512: loss {loss:.3f}, "
        f"{gigabytes:.2f} GB at most, {seconds:.0f} s of processor time for the step",
    )
    assert math.isfinite(loss)
    assert gigabytes < 6


def paper_in_child():
    from pipelines.tasks.registry import catalogue

    groups = {}
    for task in catalogue().select(splits=["train"]):
        groups[task.group] = GroupDims(
            observation_dim=task.observation_dim, action_dim=task.action_dim
        )
    config = preset("paper", dict(sorted(groups.items())), context=512)
    model = Vintix(config).train()
    name, dims = next(iter(config.groups.items()))
    generator = torch.Generator().manual_seed(0)
    batch = GroupBatch(
        group=name,
        observation_BLO=torch.randn(1, 512, dims.observation_dim, generator=generator),
        previous_action_BLA=torch.randn(1, 512, dims.action_dim, generator=generator),
        previous_reward_BL=torch.randn(1, 512, generator=generator),
        episode_step_BL=torch.arange(512).remainder(100)[None],
        action_BLA=torch.randn(1, 512, dims.action_dim, generator=generator),
    )
    settings = TrainConfig(preset="paper", context=512, batch_size=1, gradient_accumulation=1)
    trainer = Trainer(model, settings, Hardware("cpu", "float32", 2))
    begin = time.process_time()
    with torch_threads(2):
        loss = trainer.step(0, [MicroBatch([batch], ["bench"])]).losses.item()
    _, again = model.loss([batch])
    assert again[0].item() != loss
    return (
        sum(one.numel() for one in model.parameters()),
        loss,
        peak_megabytes() / 1024,
        time.process_time() - begin,
    )
