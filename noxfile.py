"""Sessions: each makes its own environment from the project's own files.

Plain `nox` runs lint, types and tests. `nox -s quickstart` runs the main job.
"""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SOURCES = ("vintix_cli", "pipelines", "tests", "noxfile.py")


def _install(session: nox.Session, *groups: str) -> None:
    requirements = [
        requirement
        for group in groups
        for requirement in nox.project.dependency_groups(
            nox.project.load_toml("pyproject.toml"), group
        )
    ]
    session.install("-c", "constraints.txt", "-e", ".", *requirements)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Run the five stages, small, and leave a many-shot curve in ./artifacts."""
    _install(session)
    session.run("vintix", "quickstart", *session.posargs)
    session.log(f"this vintix is {session.bin}/vintix")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests."""
    _install(session, "test")
    workers = os.environ.get("PYTEST_WORKERS", "auto")
    session.run(
        "pytest",
        "-n",
        workers,
        "-m",
        "not slow and not benchmark",
        *session.posargs,
        env=ONE_THREAD,
    )


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that simulate, train or inject faults for minutes."""
    _install(session, "test")
    session.run("pytest", "-m", "slow", *session.posargs, env=ONE_THREAD)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run the tests of `distill --executor ray` on a test cluster of two nodes of this machine."""
    _install(session, "test")
    session.install("-c", "constraints.txt", "-e", ".[cluster]")
    session.run("pytest", "tests/distill/test_cluster.py", *session.posargs, env=ONE_THREAD)


@nox.session
def bench(session: nox.Session) -> None:
    """Print ratios against named baselines, one process after the other."""
    _install(session, "test")
    session.run(
        "pytest", "-m", "benchmark", "-s", "tests/benchmarks", *session.posargs, env=ONE_THREAD
    )


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


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    _install(session, "types")
    session.run("mypy")
