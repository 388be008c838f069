"""``vintix doctor``: what this machine can run."""

from __future__ import annotations

import os
import shutil
from typing import Any

from pipelines.errors import VintixError
from vintix_cli import options
from vintix_cli.help import examples
from vintix_cli.render import print_json, print_table
from vintix_cli.run import command

EPILOG = examples("vintix doctor", "vintix doctor --domain mujoco --json")


@command
def doctor(
    domain: options.Domains = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
) -> None:
    """Check the domains' simulators, the devices and the workspace.

    Exit code 5 where a domain that was asked for by --domain cannot run.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.errors import MissingDependencyError

    checks = [*_domains(domain), *_devices(), _disk(Workspace.resolve(workspace))]
    if json:
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
            checks.append({"what": name, "ok": True, "detail": detail})
        # A plugin can fail in any way, and a doctor does not fall ill of it.
        except Exception as error:
            checks.append({"what": name, "ok": False, "detail": _one_line(error)})
        if "backend" in domain.simulator_options and os.environ.get("VINTIX_ISAACGYM"):
            checks.append(_isaac_gym())
    for name, reason in broken_domains().items() if not selected else ():
        checks.append({"what": name, "ok": False, "detail": _one_line(reason)})
    return checks


def _isaac_gym() -> dict[str, Any]:
    from pipelines.domains.isaacgym import isaac_packages

    try:
        versions = isaac_packages()
    except VintixError as error:
        return {"what": "isaacgym", "ok": False, "detail": _one_line(error)}
    detail = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"what": "isaacgym", "ok": True, "detail": detail}


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
        {
            "what": "torch",
            "ok": True,
            "detail": f"{torch.__version__}, {torch.get_num_threads()} threads",
        },
        {"what": "GPUs", "ok": True, "detail": names or "none: training and rollout use the CPU"},
        {
            "what": "attention",
            "ok": True,
            "detail": f"{backend} on {'CUDA' if gpus else 'the CPU'}",
        },
    ]


def _disk(workspace: Any) -> dict[str, Any]:
    directory = workspace.root
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    return {
        "what": "workspace",
        "ok": True,
        "detail": f"{workspace.root}, {free / 1e9:,.0f} GB free",
    }
