"""Domains of a user whose code raises; copied into a directory of installed packages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from point_mass_domain import PointMass, PointMassEnv

from pipelines.domains.base import Options, OptionSpec
from pipelines.policies.base import PolicySpec
from pipelines.tasks.spec import TaskSpec


class RaisingEnv(PointMassEnv):
    def step(self, action):
        if os.environ.get("FAULTY", "1") == "1":
            raise RuntimeError("the simulator fell over")
        return super().step(action)


class Faulty(PointMass):
    """Two tasks; the environment of one raises, unless the variable FAULTY says 0."""

    name = "faulty"
    packages = ("vintix-faulty",)

    def tasks(self) -> Sequence[TaskSpec]:
        sound, raising = (replace(task, domain=self.name) for task in super().tasks())
        return [replace(sound, name="faulty-sound"), replace(raising, name="faulty-raising")]

    def make_env(self, task: TaskSpec, options: Options) -> PointMassEnv:
        kind = RaisingEnv if task.name == "faulty-raising" else PointMassEnv
        return kind((1.0, 1.0), float(options["speed"]), task.horizon)

    def demonstrator(self, task: TaskSpec) -> PolicySpec:
        return PolicySpec("point_mass_to_corner", {"corner": [1.0, 1.0], "gain": 3.0})


class Grumbling(PointMass):
    """Raises what no interface foresees."""

    name = "grumbling"
    packages = ()

    def tasks(self) -> Sequence[TaskSpec]:
        task = super().tasks()[0]
        return [replace(task, name="grumbling", domain=self.name)]

    def options(self) -> Sequence[OptionSpec]:
        raise ZeroDivisionError("a mistake in somebody's plugin")
