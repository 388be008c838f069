"""``vintix import`` and ``vintix export`` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from cli.support import Shell
from cli.test_help import examples_of, help_of

from vintix_cli.commands.interchange import FORMATS

from .support import task, write_official

COMMANDS = (
    "import checkpoint",
    "import dataset",
    "export checkpoint",
    "export dataset",
    "export histories",
)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "work", tmp_path, {})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_two_examples_of_options_it_explains(shell: Shell, command: str) -> None:
    text = help_of(shell, command)
    examples = examples_of(command)
    assert len(examples) >= 2
    for example in examples:
        words = example.split()
        assert words[:3] == ["vintix", *command.split()]
        assert all(word in text for word in words if word.startswith("--"))


@pytest.mark.parametrize("kind", ["checkpoint", "dataset", "histories"])
def test_every_format_has_its_exporter(kind: str) -> None:
    """The command names them as text, so that help does not import torch."""
    assert FORMATS[kind]
    for target in FORMATS[kind].values():
        assert callable(resolve_name(f"pipelines.interchange.{target}"))


def test_a_checkpoint_goes_in_plays_and_comes_out(shell: Shell) -> None:
    folder = write_official(
        shell.directory / "released", {"Reacher-v4": task(10, 2, "reach"), "new": task(4, 1, "n")}
    )
    done = shell.vintix("import", "checkpoint", folder, "--json")
    assert done.code == 0, done.stderr
    assert done.document["artifact"]["name"] == "released"
    assert done.document["unmatched"].keys() == {"new"}
    again = shell.vintix("import", "checkpoint", folder)
    last = again.stdout.splitlines()[-1]
    assert (again.code, last) == (0, "up to date: checkpoints/released@v1")
    assert "new is imported as a task of its own" in again.stderr
    options = ["--task", "Reacher-v4", "--shots", "1", "--context", "24", "--json"]
    played = shell.vintix("rollout", *options, "--set", "rollout.seeds=1")
    assert played.code == 0, played.stderr
    out = shell.directory / "out"
    sent = shell.vintix("export", "checkpoint", "released", "--output", out, "--json")
    assert sent.code == 0, sent.stderr
    written = {each["path"] for each in sent.document["files"]}
    assert written == {"model.pth", "config.json", "metadata.json"}
    assert (out / "metadata.json").read_bytes() == (folder / "metadata.json").read_bytes()
    taken = shell.vintix("export", "checkpoint", "released", "--output", out)
    assert taken.code == 2
    assert "--overwrite" in taken.stderr


def test_a_release_becomes_a_dataset_that_is_trained_on(shell: Shell, conformance: Path) -> None:
    pytest.importorskip("h5py", reason="the extra h5 is not installed")
    data = shutil.copytree(conformance / "dataset", shell.directory / "data")
    done = shell.vintix("import", "dataset", data, "--as", "dataset", "--order", "official")
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "wrote: datasets/data@v1"
    assert done.stdout.split()[0] == "task", "a table is led by what its rows are about"
    trained = shell.vintix(
        "train", "--steps", "1", "--context", "16", "--batch-size", "2", "--device", "cpu", "--json"
    )
    assert trained.code == 0, trained.stderr
    sent = shell.vintix("export", "dataset", "--output", shell.directory / "out", "--json")
    assert sent.code == 0, sent.stderr
    assert [row["steps"] for row in sent.document["tasks"]] == [50_000, 50_000]


def test_errors_have_their_codes(shell: Shell) -> None:
    """2 wrong option, 4 missing, damaged or unsafe; each as one JSON document too."""
    folder = write_official(shell.directory / "one", {"a": task(3, 2, "g")})
    for arguments, code in (
        (("import", "dataset", folder, "--as", "soup"), 2),
        (("import", "dataset", folder, "--order", "random"), 2),
        (("export", "checkpoint", "--format", "onnx", "--output", "x"), 2),
        (("import", "checkpoint", shell.directory / "nowhere"), 4),
        (("import", "dataset", folder), 4),
        (("export", "histories", "--output", "x"), 4),
    ):
        done = shell.vintix(*arguments, "--json")
        assert done.code == code, (arguments, done.stderr)
        assert done.document["exit_code"] == code
        assert done.document["message"]
        assert "Traceback" not in done.stderr
    torch.save({"model": object}, folder / "model.pth")
    unsafe = shell.vintix("import", "checkpoint", folder, "--json")
    assert (unsafe.code, unsafe.document["error"]) == (4, "UnsafeContentError")
    assert json.loads(unsafe.stdout)["where"].endswith("model.pth")
