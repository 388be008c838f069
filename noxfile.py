"""Sessions, which install what they need from the project's own files.

Plain `nox` runs lint, types and tests. `nox -s quickstart` runs the main job.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
EXTRAS = {
    "tracking": ("tests/train/test_tracking.py", "tests/train/test_trackers.py"),
    "minari": ("tests/interchange/test_minari.py", "tests/test_five_stages.py"),
    "h5": (
        "tests/interchange/test_official_dataset.py",
        "tests/interchange/test_commands.py",
        "tests/interchange/test_full_disk.py",
        "tests/methods/test_released_windows.py",
    ),
    "cluster": ("tests/distill/test_cluster.py",),
    "hub": ("tests/hub",),
}
"""Extras and the tests that need them; `flash` needs a GPU."""


def _install(session: nox.Session, *groups: str, extra: str | None = None) -> None:
    requirements = [
        requirement
        for group in groups
        for requirement in nox.project.dependency_groups(
            nox.project.load_toml("pyproject.toml"), group
        )
    ]
    # Python compiles what is imported, a tenth of what there is.
    project = f".[{extra}]" if extra else "."
    session.install("--no-compile", "-c", "constraints.txt", "-e", project, *requirements)


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
@nox.parametrize("extra", [nox.param(extra, id=extra) for extra in EXTRAS])
def extra(session: nox.Session, extra: str) -> None:
    """Run the tests of an extra in an environment that has this one alone."""
    _install(session, "pytest", extra=extra)
    tests = session.posargs or EXTRAS[extra]
    session.run("pytest", "-m", "not benchmark", *tests, env=ONE_THREAD)


@nox.session
def release(session: nox.Session) -> None:
    """Build what is published into dist/, check it, and use the wheel where nothing else is.

    With a tag as argument, such as `v0.1.0`, version and changelog have to be that one's.
    """
    _check_version(session)
    requirements = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "release")
    session.install("-c", "constraints.txt", *requirements)
    shutil.rmtree("dist", ignore_errors=True)
    # The wheel is built from the sdist, so that it can be by others.
    session.run("python", "-m", "build", "--outdir", "dist")
    (wheel,) = Path("dist").resolve().glob("*.whl")
    session.run("twine", "check", "--strict", str(wheel), *map(str, Path("dist").glob("*.tar.gz")))
    constraints = Path("constraints.txt").resolve()
    with tempfile.TemporaryDirectory(prefix="vintix-release-") as directory:
        session.run("python", "-m", "venv", f"{directory}/venv")
        programs = Path(directory, "venv", "bin")
        python, vintix = str(programs / "python"), str(programs / "vintix")
        session.chdir(directory)
        # Nothing of this checkout or of the user's packages is found from here.
        clean = {**ONE_THREAD, "PYTHONPATH": "", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
        run = functools.partial(session.run, external=True, env=clean)
        run(
            python, "-m", "pip", "install", "-q", "--no-compile", "-c", str(constraints), str(wheel)
        )
        run(python, "-m", "pip", "check")
        run(vintix, "doctor")
        run(vintix, "distill", "--task", "dark-room", "--trajectories", "2", "--steps", "2000")
        run(vintix, "pack")
        run(vintix, "train", "--preset", "tiny", "--context", "64", "--steps", "2")
        run(vintix, "rollout", "--task", "dark-room", "--shots", "2", "--seeds", "1")
        run(vintix, "artifacts", "verify", "--all")
        run(python, "-c", "import vintix; print(len(vintix.load('packaged').tasks), 'tasks')")


def _check_version(session: nox.Session) -> None:
    version = nox.project.load_toml("pyproject.toml")["project"]["version"]
    changes = Path("CHANGELOG.md").read_text(encoding="utf-8")
    if session.posargs and session.posargs != [f"v{version}"]:
        session.error(f"the tag is {session.posargs[0]}, pyproject.toml has version {version}")
    if session.posargs and f"## {version} (unreleased)" in changes:
        session.error(f"CHANGELOG.md says that {version} is unreleased: put the date there")


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation site into build/site: runs the tutorials, checks all links."""
    _install(session, "site")
    session.run("mkdocs", "build", *session.posargs, env=ONE_THREAD)


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
