"""``vintix doctor``: what this machine can run."""

from __future__ import annotations

import os

import torch


def test_doctor_checks_every_domain_devices_and_workspace(empty):
    done = empty.vintix("doctor", "--json")
    assert done.code == 0, done.stderr
    checks = {check["what"]: check for check in done.document["checks"]}
    assert {"mujoco", "metaworld", "industrial-benchmark", "bidexhands", "point-mass"} <= set(
        checks
    )
    assert {"torch", "GPUs", "attention", "workspace"} <= set(checks)
    expected = ["flash", "flex"] if torch.cuda.is_available() else ["blocked"]
    assert checks["attention"]["detail"].split()[0] in expected
    assert checks["bidexhands"]["ok"] and "mujoco 3" in checks["bidexhands"]["detail"]
    assert "isaacgym" not in checks
    assert checks["mujoco"]["ok"] and "mujoco 3" in checks["mujoco"]["detail"]
    assert checks["point-mass"]["detail"] == "point-mass-domain 0.1.0"
    assert str(empty.workspace) in checks["workspace"]["detail"]


def test_doctor_tries_an_isaac_gym_that_it_is_told_of(empty):
    wrong = {"VINTIX_ISAACGYM": "python:/no/such/python3.8"}
    done = empty.vintix("doctor", "--domain", "bidexhands", variables=wrong)
    assert done.code == 5
    assert "isaacgym" in done.stderr
    assert "/no/such/python3.8" in done.stdout and "…" not in done.stdout
    assert empty.vintix("doctor", "--domain", "point-mass").code == 0
    assert empty.vintix("doctor", "--domain", "point-mass", variables=wrong).code == 0


def test_doctor_names_plugins_that_do_not_work(faulty):
    """One cannot be asked for its options, one cannot be imported: both are told."""
    done = faulty.vintix("doctor", "--json")
    assert done.code == 0, done.stderr
    checks = {check["what"]: check for check in done.document["checks"]}
    assert checks["point-mass"]["ok"]
    assert not checks["grumbling"]["ok"]
    assert "a mistake in somebody's plugin" in checks["grumbling"]["detail"]
    (faulty.directory / "faulty_domain.py").write_text("import a_package_that_is_not_there\n")
    path = f"{faulty.directory}{os.pathsep}{faulty.variables['PYTHONPATH']}"
    done = faulty.vintix("doctor", "--json", variables={"PYTHONPATH": path})
    assert done.code == 0, done.stderr
    checks = {check["what"]: check for check in done.document["checks"]}
    assert checks["point-mass"]["ok"]
    for name in ("faulty", "grumbling"):
        assert not checks[name]["ok"]
        assert "a_package_that_is_not_there" in checks[name]["detail"]
