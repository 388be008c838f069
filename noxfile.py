"""Sessions, which install what they need from the project's own files.

Plain `nox` runs lint, types and tests. `nox -s quickstart` runs the main job.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SOURCES = ("vintix", "vintix_cli", "pipelines", "tests", "noxfile.py")


def _install(session: nox.Session, *groups: str) -> None:
    requirements = [
        requirement
        for group in groups
        for requirement in nox.project.dependency_groups(
            nox.project.load_toml("pyproject.toml"), group
        )
    ]
    # Python compiles what is imported, a tenth of what there is.
    session.install("--no-compile", "-c", "constraints.txt", "-e", ".", *requirements)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Run the five stages, small, and leave a many-shot curve in ./artifacts."""
    _install(session)
    session.run("vintix", "quickstart", *session.posargs)
    session.log(f"this vintix is {session.bin}/vintix")


@nox.session(reuse_venv=True, default=False)
def environment(session: nox.Session) -> None:
    """Install the project with what checks it; the sessions below share this environment."""
    _install(session, "test", "types")


shared = functools.partial(nox.session, venv_backend="none", requires=["environment"])


def _run(session: nox.Session, *command: str) -> None:
    """Run a program of the shared environment."""
    programs = session.cache_dir.parent / "environment" / "bin"
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    session.run(
        str(programs / command[0]), *command[1:], env={**ONE_THREAD, "PATH": path}, external=True
    )


def _memory() -> str | None:
    """Return a directory in memory that files can be run from, None where there is no room."""
    path = "/dev/shm"
    if not os.access(path, os.W_OK) or os.statvfs(path).f_flag & os.ST_NOEXEC:
        return None
    return path if shutil.disk_usage(path).free > 4 << 30 else None


def _pytest(session: nox.Session, *options: str) -> None:
    workers = os.environ.get("PYTEST_WORKERS", "auto")
    # The tests write and delete a hundred thousand small files.
    with tempfile.TemporaryDirectory(prefix="vintix-", dir=_memory()) as directory:
        _run(
            session,
            *("pytest", "-n", workers, "--dist", "worksteal", "--basetemp", f"{directory}/tests"),
            *options,
            *session.posargs,
        )


@shared()
def tests(session: nox.Session) -> None:
    """Run all tests that take seconds: a quarter of an hour at most on two cores."""
    _pytest(session, "-m", "not slow and not benchmark")


@shared()
def fast(session: nox.Session) -> None:
    """Run those that start no process, step no simulator and run no stage many times."""
    slower = ("process", "simulator", "stage", "slow", "benchmark")
    _pytest(session, "-m", " and ".join(f"not {marker}" for marker in slower))


@shared()
def slow(session: nox.Session) -> None:
    """Run the tests that simulate, train or inject faults for minutes, and try many examples."""
    _run(
        session,
        *("pytest", "-m", "slow or hypothesis", "--hypothesis-profile", "thorough"),
        *session.posargs,
    )


@shared()
def bench(session: nox.Session) -> None:
    """Print ratios against named baselines, one process after the other."""
    _run(session, "pytest", "-m", "benchmark", "-s", "tests/benchmarks", *session.posargs)


@shared()
def types(session: nox.Session) -> None:
    """Check types."""
    _run(session, "mypy")


@nox.session
def cluster(session: nox.Session) -> None:
    """Run the tests of `distill --executor ray` on a test cluster of two nodes of this machine."""
    _install(session, "test")
    session.install("-c", "constraints.txt", "-e", ".[cluster]")
    session.run("pytest", "tests/distill/test_cluster.py", *session.posargs, env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(
        "-c",
        "constraints.txt",
        *nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint"),
    )
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
