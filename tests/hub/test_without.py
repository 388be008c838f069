"""Where the extra is not installed, the commands say how to get it."""

from __future__ import annotations

import pytest

from tests.cli.support import Shell


@pytest.mark.process
@pytest.mark.parametrize("arguments", [("push", "packaged", "me/mine"), ("pull", "me/mine")])
def test_the_extra_is_named(tmp_path, arguments):
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not here')\n")
    shell = Shell(tmp_path / "work", tmp_path, {"PYTHONPATH": str(tmp_path)})
    done = shell.vintix(*arguments, "--json")
    assert done.code == 5
    assert done.document["fix"] == "pip install 'vintix[hub]'"
