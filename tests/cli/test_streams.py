"""Streams that refuse, know little, or are used by others: the exit code and the document hold."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest
import typer

from vintix_cli.render import print_json
from vintix_cli.run import guarded as command

# One process imports the command line once; each case is a fork of it.
FORKS = """
import json, os, sys, tempfile
import vintix_cli.app as cli
import rich.table, vintix_cli.commands.artifacts, pipelines.artifacts.listing
from pipelines.domains.registry import full_catalogue

def take(descriptor, how):
    if how == "closed":
        os.close(descriptor)
        return
    if how == "gone":
        reader, target = os.pipe()
        os.close(reader)
    elif how == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        target = os.open(how, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, descriptor)
    os.close(target)

full_catalogue()
told = []
for number, (arguments, stdout, stderr, encoding) in enumerate(json.loads(sys.argv[1])):
    files = [f"{number}.out", f"{number}.err"]
    child = os.fork()
    if child == 0:
        take(1, stdout or files[0])
        take(2, stderr or files[1])
        sys.stdout.reconfigure(encoding=encoding, errors="strict")
        sys.stderr.reconfigure(encoding=encoding)
        # So does the interpreter leave them where their descriptors are closed.
        sys.stdout = None if stdout == "closed" else sys.stdout
        sys.stderr = None if stderr == "closed" else sys.stderr
        sys.argv = ["vintix", *(each.encode("latin-1").decode("utf-8", "surrogateescape")
                                for each in arguments)]
        cli.main()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [open(each, "rb").read().decode("latin-1") if os.path.exists(each) else ""
             for each in files]
    told.append([code, *texts])
print(json.dumps(told))
"""

UNKNOWN, SHOWN = ["tasks", "nosuch"], ["tasks", "hopper"]
NOT_UTF8 = ["artifacts", "show", "a\xffb"]
CASES = [
    *((words, "full", None, "utf-8", 1) for words in (SHOWN, ["--help"], ["--version"])),
    ([*SHOWN, "--json"], "closed", None, "utf-8", 1),
    *(([*UNKNOWN, "--json"], how, None, "utf-8", 2) for how in ("full", "closed")),
    *((UNKNOWN, None, how, "utf-8", 2) for how in ("full", "closed", "gone")),
    *((words, None, "full", "utf-8", 2) for words in (["tasks", "--nosuch"], [])),
    (UNKNOWN, "closed", "closed", "utf-8", 2),
    *((words, "gone", None, "utf-8", 0) for words in (["--help"], ["tasks", "--json"])),
    (NOT_UTF8, None, None, "utf-8", 2),
    *(([*NOT_UTF8, "--json"], None, None, encoding, 2) for encoding in ("utf-8", "ascii")),
]  # fmt: skip


@pytest.mark.process
def test_streams_that_refuse_leave_the_exit_code_of_the_table(tmp_path):
    cases = json.dumps([case[:4] for case in CASES])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, cases],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for case, (code, stdout, stderr) in zip(CASES, json.loads(done.stdout), strict=True):
        words, out, err, _, expected = case
        assert code == expected, (case, stderr)
        assert "Traceback" not in stderr and "Exception ignored" not in stderr, (case, stderr)
        if expected == 1 and err is None:
            assert "the results cannot be written" in stderr, case
        if expected == 2 and words and err is None:
            assert stderr.startswith("error: "), case
        if "--json" in words and out is None:
            assert json.loads(stdout)["exit_code"] == expected, case


@pytest.mark.process
def test_where_there_is_only_ascii_bars_and_borders_are(tmp_path):
    code = (
        "from vintix_cli.streams import open_streams, end_streams\n"
        "open_streams()\n"
        "from vintix_cli.render import print_table\n"
        "from pipelines.text import sparkline\n"
        "print_table([{'caf\\xe9': sparkline([0, 1, 2, None, 7])}], title='a')\n"
        "assert end_streams() is None\n"
    )
    variables = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=variables,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_.- #" in done.stdout
    assert "\n-----\n" in done.stdout and "caf\\xe9" in done.stdout


@pytest.mark.process
def test_only_results_reach_stdout(capfd):
    """Not prints of Python, of C libraries, or of child processes; and it is given back."""

    @command
    def noisy(json: bool) -> None:
        print("by Python")  # noqa: T201
        libc = ctypes.CDLL(None)
        libc.puts(b"by C")
        os.write(1, b"by descriptor\n")
        subprocess.run(["echo", "by a child"], check=True)
        print_json({"ours": 1})
        libc.puts(b"by C, later")
        raise typer.Exit(0)

    with pytest.raises(typer.Exit):
        noisy(json=True)
    print("later")  # noqa: T201
    out, err = capfd.readouterr()
    assert json.loads(out.removesuffix("later\n")) == {"ours": 1}
    for who in ("Python", "C", "descriptor", "a child", "C, later"):
        assert f"by {who}\n" in err


@pytest.mark.process
@pytest.mark.parametrize(
    ("flags", "words", "told"),
    [
        # It names itself so that what it advises can be run.
        ([], ["--nosuch"], ["No such option: --nosuch", "python -m vintix_cli tasks --help"]),
        # Zarr reads a group's metadata within an assertion.
        (["-O"], ["hopper"], ["without assertions", "PYTHONOPTIMIZE"]),
    ],
    ids=["-m", "-O -m"],
)
def test_the_package_runs_as_a_module_but_not_without_assertions(tmp_path, flags, words, told):
    done = subprocess.run(
        [sys.executable, *flags, "-m", "vintix_cli", "tasks", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert all(text in done.stderr for text in told), done.stderr
