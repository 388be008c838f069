"""The store against a dictionary: any order of staging, crashing, publishing, finding, gc."""

from __future__ import annotations

import contextlib
import gc as garbage

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipelines.artifacts.gc import collect, plan_gc
from pipelines.artifacts.listing import list_artifacts, list_staged
from pipelines.artifacts.staging import Staging
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError

from .helpers import Crash, check_tiny, items_of, publish_tiny, quick_directory, write_item

NAMES = st.sampled_from(["ant", "bee"])
SEEDS = st.integers(0, 2)


class StoreMachine(RuleBasedStateMachine):
    """The model is two dictionaries.

    `published` maps a name to {version: seed}, `staged` maps (name, seed) to the durable items.
    """

    @initialize()
    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        self.root = self.stack.enter_context(quick_directory())
        self.workspace = Workspace(self.root)
        self.published: dict[str, dict[int, int]] = {}
        self.staged: dict[tuple[str, int], set[str]] = {}
        self.digests: dict[int, str] = {}
        self.open: tuple[str, int, Staging] | None = None
        self.newest: str | None = None

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def _config(self, seed: int) -> dict[str, int]:
        return {"shards": 1, "seed": seed}

    @precondition(lambda self: self.open is None)
    @rule(name=NAMES, seed=SEEDS)
    def stage(self, name: str, seed: int) -> None:
        """Opening finds the published version, or the items of earlier runs."""
        staging = self.workspace.stage("histories", name, config=self._config(seed))
        staging.__enter__()
        versions = [v for v, s in self.published.get(name, {}).items() if s == seed]
        if versions:
            assert staging.published is not None
            assert staging.published.manifest.version == max(versions)
            staging.__exit__(None, None, None)
            return
        assert staging.published is None
        items = self.staged.setdefault((name, seed), set())
        assert staging.work_items() == sorted(items)
        assert staging.resumed_items == len(items)
        self.open = (name, seed, staging)

    @precondition(lambda self: self.open is not None)
    @rule(index=st.integers(0, 1), dies=st.booleans())
    def write(self, index: int, dies: bool) -> None:
        """An item counts once it ended well; beginning it again takes it back."""
        name, seed, staging = self.open
        item = items_of(self._config(seed))[index]
        durable = self.staged[name, seed]
        if dies:
            with contextlib.suppress(Crash), staging.work_item(item) as begun:
                begun.group("toy/00000")
                raise Crash
            durable.discard(item)
        elif index == 0 or items_of(self._config(seed))[0] in durable:
            # The second item reads what the first left in scratch.
            write_item(staging, item)
            durable.add(item)

    @precondition(lambda self: self.open is not None)
    @rule(index=st.integers(0, 1))
    def drop(self, index: int) -> None:
        name, seed, staging = self.open
        item = items_of(self._config(seed))[index]
        if item in self.staged[name, seed]:
            staging.drop(item)
            self.staged[name, seed].remove(item)
        assert staging.work_items() == sorted(self.staged[name, seed])

    @precondition(lambda self: self.open is not None)
    @rule()
    def leave(self) -> None:
        self.open[2].__exit__(None, None, None)
        self.open = None

    @precondition(
        lambda self: self.open is not None and len(self.staged[self.open[0], self.open[1]]) == 2
    )
    @rule()
    def publish(self) -> None:
        """The next free number, and the digest that this content always has."""
        name, seed, staging = self.open
        artifact = publish_tiny(staging)
        versions = self.published.setdefault(name, {})
        assert artifact.manifest.version == max(versions, default=0) + 1
        versions[artifact.manifest.version] = seed
        del self.staged[name, seed]
        check_tiny(artifact)
        assert self.digests.setdefault(seed, artifact.digest) == artifact.digest
        staging.__exit__(None, None, None)
        self.open = None
        self.newest = name

    @rule(name=NAMES, version=st.integers(1, 4))
    def find(self, name: str, version: int) -> None:
        """By name, by version and by path, readers see exactly what was published."""
        versions = self.published.get(name, {})
        path = self.root / "histories" / name / f"v{version}"
        for reference in (f"{name}@v{version}", f"histories/{name}@v{version}", str(path)):
            if version in versions:
                found = self.workspace.find("histories", reference)
                assert found.config == self._config(versions[version])
            else:
                _is_missing(self.workspace, reference)
        if versions:
            assert self.workspace.find("histories", name).manifest.version == max(versions)
        else:
            _is_missing(self.workspace, name)

    @rule()
    def find_newest(self) -> None:
        if self.newest is None:
            _is_missing(self.workspace, None)
        else:
            found = self.workspace.find("histories")
            assert found.manifest.name == self.newest
            assert found.manifest.version == max(self.published[self.newest])

    @rule(keep=st.sampled_from([None, 1, 2]), staging=st.booleans())
    def gc(self, keep: int | None, staging: bool) -> None:
        """Takes old versions and abandoned work, never the newest nor what is being written."""
        # What was opened and dropped above holds nothing any more.
        garbage.collect()
        plan = plan_gc(self.workspace, keep=keep, staging=staging)
        collect(self.workspace, plan.leftovers + plan.staged + plan.versions)
        for name, versions in self.published.items():
            if keep is not None and not (self.open and self.open[0] == name):
                for version in sorted(versions)[:-keep]:
                    del versions[version]
        if staging:
            for name, seed in list(self.staged):
                if not (self.open and self.open[0] == name):
                    del self.staged[name, seed]

    @invariant()
    def listing_agrees(self) -> None:
        if not hasattr(self, "workspace"):
            return
        rows = [(row["name"], row["version"]) for row in list_artifacts(self.workspace)]
        assert rows == [(name, v) for name in sorted(self.published) for v in self.published[name]]
        staged = sorted((row["name"], row["units_done"]) for row in list_staged(self.workspace))
        assert staged == sorted((name, len(items)) for (name, _), items in self.staged.items())

    @invariant()
    def everything_published_is_whole(self) -> None:
        for name, versions in getattr(self, "published", {}).items():
            for version in versions:
                assert verify(self.workspace.path("histories", name, version)) == []


def _is_missing(workspace: Workspace, reference: str | None) -> None:
    try:
        workspace.find("histories", reference)
    except ArtifactMissingError:
        return
    raise AssertionError(f"{reference} was found")


def test_store_behaves_like_a_dictionary():
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=settings.default.max_examples // 4,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
