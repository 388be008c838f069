"""``vintix doctor``: what this machine can run."""

from __future__ import annotations

import os
import shutil
from typing import Any

from pipelines.errors import MissingDependencyError, VintixError
from pipelines.text import counted
from vintix_cli.help import examples
from vintix_cli.options import Domains, Place, command
from vintix_cli.render import print_json, print_table

EPILOG = examples("vintix doctor", "vintix doctor --domain mujoco --json")


@command
def doctor(place: Place, domain: Domains = None) -> None:
    """Check the domains' simulators, the devices and the workspace.

    Exit code 5 where a domain that was asked for by --domain cannot run.
    """
    checks = [*_domains(domain), *_devices(), _disk(place.space)]
    if place.json:
        print_json({"checks": checks})
    else:
        print_table(checks)
    failed = [check["what"] for check in checks if not check["ok"]]
    if domain and failed:
        raise MissingDependencyError("cannot run here", found=", ".join(failed))


def _domains(selected: list[str] | None) -> list[dict[str, Any]]:
    from pipelines.artifacts.provenance import package_versions
    from pipelines.domains.checked import make_env
    from pipelines.domains.registry import (
        broken_domains,
        full_catalogue,
        load_domains,
        resolve_options,
    )

    catalogue = full_catalogue()
    wanted = {task.domain for task in catalogue.select(domains=selected or ())}
    checks = []
    for name, domain in load_domains().items():
        if name not in wanted:
            continue
        versions = package_versions(domain.packages)
        detail = ", ".join(
            f"{each} {versions[each]}" for each in domain.packages if each in versions
        )
        try:
            environment = make_env(domain, domain.tasks()[0], resolve_options(domain, {}))
            environment.reset(seed=0)
            environment.close()
            checks.append(_check(name, detail))
        # A plugin can fail in any way, and a doctor does not fall ill of it.
        except Exception as error:
            checks.append(_check(name, error))
        if "backend" in domain.simulator_options and os.environ.get("VINTIX_ISAACGYM"):
            checks.append(_isaac_gym())
    for name, reason in broken_domains().items() if not selected else ():
        checks.append(_check(name, reason))
    return checks


def _isaac_gym() -> dict[str, Any]:
    from pipelines.domains.isaacgym import isaac_packages

    try:
        versions = isaac_packages()
    except VintixError as error:
        return _check("isaacgym", error)
    return _check("isaacgym", ", ".join(f"{name} {each}" for name, each in versions.items()))


def _check(what: str, found: str | Exception) -> dict[str, Any]:
    """Return a line of the table: what was found, or what went wrong."""
    detail = _one_line(found) if isinstance(found, Exception) else found
    return {"what": what, "ok": not isinstance(found, Exception), "detail": detail}


def _one_line(error: Exception) -> str:
    if isinstance(error, VintixError):
        return "; ".join(error.parts())
    return f"{type(error).__name__}: {error}"


def _devices() -> list[dict[str, Any]]:
    import torch

    from pipelines.model.attention import select_backend

    gpus = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(gpus))
    backend = (
        select_backend("cuda", torch.bfloat16) if gpus else select_backend("cpu", torch.float32)
    )
    return [
        _check("torch", f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')}"),
        _check("GPUs", names or "none: training and rollout use the CPU"),
        _check("attention", f"{backend} on {'CUDA' if gpus else 'the CPU'}"),
    ]


def _disk(workspace: Any) -> dict[str, Any]:
    directory = workspace.root
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    return _check("workspace", f"{workspace.root}, {free / 1e9:,.0f} GB free")
