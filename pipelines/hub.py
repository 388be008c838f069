"""Artifacts to the Hugging Face Hub and back.

A repository holds one artifact: its files as they are, and a card that is rendered from its
manifest. A push is one commit, so that whoever pulls finds a whole artifact or the one before. What
was sent before an interruption is not sent again, since the Hub knows it by its hash; what was
received lies in the cache of `huggingface_hub`. Tokens are that library's business alone: it finds
them itself, and nothing here reads, writes or prints one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict

from pipelines import __version__
from pipelines.artifacts.schema import DATA, MANIFEST, Manifest
from pipelines.dependencies import load_extra
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ConfigError,
    StorageError,
    UsageError,
    VintixError,
)
from pipelines.options import check_name, option
from pipelines.stage import StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter

MODELS = ("demonstrators", "checkpoints")
"""Kinds that the Hub holds as models; the others are datasets there."""

CARD = "README.md"
_FOREIGN = ("model.pth", "model.safetensors", "config.json", "metadata.json")
_DATASETS = "datasets/"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST = re.compile(r"[0-9a-fA-F]{8,64}")
_ATTRIBUTES = ".gitattributes"
_SHOWN = 400
"""Most characters of a message of the Hub's that are shown."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub.

    Attributes:
        name: ``owner/name``.
        kind: ``model`` or ``dataset``.
        revision: A branch, tag or commit; None for the newest.
    """

    name: str
    kind: str
    revision: str | None = None

    def __str__(self) -> str:
        prefix = _DATASETS if self.kind == "dataset" else ""
        return f"{prefix}{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse_repository(text: str) -> Repository:
    """Read ``owner/name``, with ``datasets/`` before it for a dataset and ``@REV`` after it.

    Raises:
        UsageError: It is neither.
    """
    plain, at, revision = text.partition("@")
    name = plain.removeprefix(_DATASETS)
    if not _REPOSITORY.fullmatch(name) or (at and not revision):
        raise UsageError(
            "malformed repository",
            where=text,
            expected="OWNER/NAME, datasets/OWNER/NAME, either with @REV",
        )
    return Repository(name, "dataset" if plain != name else "model", revision or None)


def check_repository(text: str) -> str:
    """Return the text of a repository; raises as `parse_repository`."""
    parse_repository(text)
    return text


def check_digest(text: str) -> str:
    """Return a digest or its beginning; raises a `UsageError` where it is none."""
    if not _DIGEST.fullmatch(text):
        raise UsageError("malformed digest", expected="8 to 64 hexadecimal digits", found=text)
    return text.lower()


class PushConfig(BaseModel):
    """What ``vintix push`` sends, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str = option(
        "KIND/NAME, NAME@v3 or a path.",
        argument=True,
        metavar="ARTIFACT",
        values=("references",),
    )
    repository: str = option(
        "OWNER/NAME; made if it is not there.",
        argument=True,
        metavar="REPO",
        check=check_repository,
    )
    private: bool = option("Make a new repository private.", False)


class PullConfig(BaseModel):
    """What ``vintix pull`` receives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str = option(
        "OWNER/NAME of a model, datasets/OWNER/NAME of anything else; REV is a commit, branch or "
        "tag.",
        argument=True,
        metavar="REPO[@REV]",
        check=check_repository,
    )
    name: Annotated[
        str | None,
        option("Name of the artifact here; default its own.", metavar="NAME", check=check_name),
    ] = None
    digest: str | None = option(
        "Refuse another artifact than that of this digest, or of one that begins so.",
        None,
        metavar="SHA256",
        check=check_digest,
    )


def push(config: PushConfig, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Send an artifact, each file compared with its manifest before.

    Args:
        workspace: Where it is; those of the package can be sent, too.

    Returns:
        ``repository`` (what `pull` takes), ``revision`` (the commit), ``url``, ``artifact``,
        ``files``, ``bytes``, and ``up_to_date``: whether the repository had all of it before.

    Raises:
        ArtifactMissingError: There is no such artifact.
        ArtifactCorruptError: It is damaged; nothing is sent.
        UsageError: The repository is malformed, or is of the other type.
        ConfigError: The Hub does not let this user write there, or ``HF_HUB_OFFLINE`` is set.
        MissingDependencyError: `huggingface_hub` is not installed.
        StorageError: The Hub cannot be reached; run again, it goes on.
    """
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.verify import verify

    artifact = Artifact(workspace.locate(config.reference))
    kind = "model" if artifact.kind in MODELS else "dataset"
    target = parse_repository(config.repository)
    if target.revision or (target.kind == "dataset" and kind == "model"):
        raise UsageError(
            f"{artifact.kind} are sent to a {kind}, each push as its newest commit",
            where=config.repository,
            expected=str(Repository(target.name, kind)),
        )
    target = Repository(target.name, kind)
    for problem in verify(artifact, reporter=reporter):
        raise ArtifactCorruptError(
            "the artifact is damaged, and was not sent",
            where=artifact.path / problem.path,
            expected=problem.expected,
            found=problem.found,
            fix=f"vintix artifacts verify {artifact.kind}/{artifact.reference}",
        )
    total = sum(entry.size for entry in artifact.manifest.files.values())
    names = [MANIFEST, *artifact.manifest.files]
    card = render_card(artifact.manifest, target).encode()
    library = _library()
    with _told(target, "write"):
        api = library.HfApi(library_name="vintix", library_version=__version__)
        api.create_repo(target.name, repo_type=kind, private=config.private or None, exist_ok=True)
        before = api.repo_info(target.name, repo_type=kind).sha
        held = api.list_repo_files(target.name, repo_type=kind)
    reporter.info(f"sending {len(names):,} files, {total:,} bytes, to {target}")
    # What an artifact before this one left there.
    gone = sorted(set(held) - {CARD, _ATTRIBUTES, *names})
    with _told(target, "write"):
        add, delete = library.CommitOperationAdd, library.CommitOperationDelete
        commit = api.create_commit(
            target.name,
            [
                add(CARD, card),
                *(add(name, str(artifact.path / name)) for name in names),
                *(delete(name) for name in gone),
            ],
            commit_message=f"{artifact.kind}/{artifact.reference}",
            repo_type=kind,
        )
    return {
        "repository": f"{target}@{commit.oid}",
        "revision": commit.oid,
        "url": f"{api.endpoint}/{target}/tree/{commit.oid}",
        "artifact": _identity(artifact),
        "files": len(names),
        "bytes": total,
        "up_to_date": commit.oid == before,
    }


def pull(config: PullConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Receive an artifact, or a checkpoint in a format of others, which is imported.

    Args:
        config: Which repository, and what it has to hold.

    Returns:
        The artifact; the report has ``repository``, with the commit that was received.

    Raises:
        ArtifactMissingError: There is no such repository or revision, it holds no artifact, or the
            Hub is not asked (``HF_HUB_OFFLINE=1``) and it is not in the cache.
        ArtifactCorruptError: It is not what its manifest, or the wanted digest, says.
        UsageError: The repository is malformed.
        ConfigError: The Hub does not show it to this user.
        MissingDependencyError: `huggingface_hub` is not installed.
        StorageError: The Hub cannot be reached, or the workspace cannot be written.
    """
    from pipelines.artifacts.adopt import adopt, read_manifest

    source = parse_repository(config.repository)
    library = _library()
    reporter.info(f"receiving {source}")
    with _told(source, "read"):
        folder = Path(
            library.snapshot_download(
                source.name,
                repo_type=source.kind,
                revision=source.revision,
                allow_patterns=[MANIFEST, f"{DATA}/*", "log/*", *_FOREIGN],
                library_name="vintix",
                library_version=__version__,
            )
        )
    received = str(Repository(source.name, source.kind, folder.name))
    if (folder / MANIFEST).exists():
        found = read_manifest(folder).digest
        if config.digest is not None and not found.startswith(config.digest):
            raise ArtifactCorruptError(
                "the repository holds another artifact",
                where=received,
                expected=f"digest {config.digest}",
                found=found,
                fix="ask for the revision that has it: REPO@REV",
            )
        try:
            artifact, up_to_date = adopt(folder, workspace, config.name, reporter)
        except ArtifactCorruptError as error:
            # The copy in the cache would be taken again.
            error.fix = f"rm -r {folder.parents[1]}, and pull again; then ask who published it"
            raise
        return StageResult(artifact, up_to_date, {"repository": received})
    if config.digest is not None or not any((folder / name).exists() for name in _FOREIGN[:2]):
        raise ArtifactMissingError(
            "the repository holds no artifact",
            where=received,
            expected=f"{MANIFEST} as vintix push writes it"
            + ("" if config.digest else ", or a checkpoint: " + " or ".join(_FOREIGN[:2])),
            found="none of these",
        )
    from pipelines.interchange.checkpoints import import_checkpoint
    from pipelines.interchange.config import ImportCheckpointConfig
    from pipelines.interchange.tasks import safe_name

    name = config.name or safe_name(source.name.rpartition("/")[2])
    imported = import_checkpoint(
        ImportCheckpointConfig(path=folder, name=name), workspace, reporter
    )
    report = {**imported.report, "repository": received}
    return StageResult(imported.artifact, imported.up_to_date, report)


def render_card(manifest: Manifest, repository: Repository) -> str:
    """Return the page of a repository, from the manifest alone: YAML for the Hub, then text."""
    import yaml

    head: dict[str, Any] = {"library_name": "vintix", "tags": ["vintix", manifest.kind]}
    if repository.kind == "model":
        head["pipeline_tag"] = "reinforcement-learning"
    else:
        head["task_categories"] = ["reinforcement-learning"]
    reference = f"{manifest.kind}/{manifest.name}@v{manifest.version}"
    plain = {key: value for key, value in manifest.summary.items() if _is_plain(value)}
    sizes = [entry.size for entry in manifest.files.values()]
    rows = {
        "artifact": reference,
        "digest": manifest.digest,
        "files": f"{len(sizes):,}, {sum(sizes):,} bytes",
        "made": manifest.created_at,
        **plain,
    }
    made_from = [f"- `{each.reference}`, digest `{each.digest}`" for each in manifest.parents]
    tasks = sorted(manifest.fingerprints)
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=True)}---",
        f"# {manifest.name}",
        f"An artifact of [vintix](https://arxiv.org/abs/2501.19400)'s toolkit, of the kind "
        f"`{manifest.kind}`.",
        f"```bash\npip install 'vintix[hub]'\nvintix pull {repository} --digest "
        f"{manifest.digest[:16]}\n```",
        _table(rows),
        *(["## Tasks", ", ".join(map(_text, tasks))] if tasks else []),
        *(["## Made from", "\n".join(made_from)] if made_from else []),
        "## Versions",
        _table(dict(sorted(manifest.packages.items()))),
        "Configuration, seeds, fingerprints of the environments and the hash of each file are in "
        f"`{MANIFEST}`. This page is rendered from it, and again by the next push.",
    ]
    return "\n\n".join(parts) + "\n"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _table(rows: Mapping[str, object]) -> str:
    lines = [f"| {_text(key)} | {_text(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _text(value: object) -> str:
    """Return a value as text that is one cell of a table, and no markup."""
    plain = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", plain)


def _identity(artifact: Artifact) -> dict[str, Any]:
    return {
        "kind": artifact.kind,
        "name": artifact.manifest.name,
        "version": artifact.manifest.version,
        "path": str(artifact.path),
        "digest": artifact.digest,
    }


def _library() -> Any:
    """Import `huggingface_hub`, whose bars and messages would stand between those of the log."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    return load_extra("huggingface_hub", "hub", "repositories of the Hugging Face Hub")


@contextmanager
def _told(repository: Repository, verb: str) -> Iterator[None]:
    """Make whatever the library raises an error of the command line, without its traceback.

    A server may send back what it was sent, the token too: it stands in no message.
    """
    try:
        yield
    except Exception as error:
        raise _described(error, repository, verb) from None


def _described(error: Exception, repository: Repository, verb: str) -> VintixError:
    errors = load_extra("huggingface_hub.errors", "hub")
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    text = " ".join(_without_token(f"{error} {cause if cause is not error else ''}").split())
    details: dict[str, Any] = {
        "where": str(repository),
        "found": f"{type(cause).__name__}: {text[:_SHOWN]}",
    }
    login = f"hf auth login, or export HF_TOKEN with a token that may {verb}"
    if isinstance(cause, errors.HFValidationError):
        return UsageError("malformed repository", **details)
    if isinstance(cause, errors.GatedRepoError):
        fix = f"ask its owner for access; then {login}"
        return ConfigError("the repository asks for an agreement first", **details, fix=fix)
    if isinstance(cause, errors.RepositoryNotFoundError):
        kind = "model" if repository.kind == "dataset" else "dataset"
        return ArtifactMissingError(
            "there is no such repository, or it is not shown to this user",
            **details,
            expected=f"a {repository.kind}",
            fix=login
            if verb == "write"
            else f"vintix pull {Repository(repository.name, kind)}, if it is a {kind}; for a "
            f"private one {login}",
        )
    if status in (401, 403):
        return ConfigError(
            f"the Hub does not let this user {verb} the repository",
            **details,
            expected=f"a token that may {verb}",
            fix=login,
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return ArtifactMissingError(
            "the repository has no such revision",
            **details,
            expected="a commit, branch or tag",
            fix=f"vintix pull {Repository(repository.name, repository.kind)}",
        )
    offline = isinstance(cause, errors.LocalEntryNotFoundError) and _offline()
    if verb == "write" and isinstance(cause, errors.OfflineModeIsEnabled):
        return ConfigError(
            "nothing is sent while HF_HUB_OFFLINE is set", **details, fix="unset HF_HUB_OFFLINE"
        )
    if isinstance(cause, errors.OfflineModeIsEnabled) or offline:
        return ArtifactMissingError(
            "the Hub is not asked, and the repository is not in the cache",
            **details,
            expected="a repository that was pulled before, or HF_HUB_OFFLINE=0",
            fix="unset HF_HUB_OFFLINE",
        )
    return StorageError(
        f"the repository could not be {'written' if verb == 'write' else 'read'}",
        **details,
        fix="run the same command again: it goes on from what has arrived",
    )


def _offline() -> bool:
    constants = load_extra("huggingface_hub.constants", "hub")
    return bool(constants.HF_HUB_OFFLINE)


def _without_token(text: str) -> str:
    """Return a message in which a token, should a server send it back, is not readable."""
    token = load_extra("huggingface_hub", "hub").get_token()
    return text.replace(token, "***") if token else text
