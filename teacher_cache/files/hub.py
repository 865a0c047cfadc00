"""The Hugging Face Hub as a store: many files in one call, and readers at one revision.

`hf://buckets/OWNER/NAME` is for work in progress: no git commits, one batch call for what counts together.
`hf://datasets/OWNER/NAME[@REVISION]` is for publishing: a push is few git commits, of which the Hub allows 128 an hour.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teacher_cache.errors import CacheError
from teacher_cache.files.urls import protocols

FILES_PER_COMMIT = 1000
BUCKETS, DATASETS = "buckets", "datasets"


@dataclass(frozen=True)
class HubPlace:
    """A folder on the Hub: `kind` is BUCKETS or DATASETS, `id` OWNER/NAME, `folder` "" or a path that ends with "/"."""

    file_system: Any
    kind: str
    id: str
    revision: str | None
    folder: str

    @property
    def root(self) -> str:
        """The path of the folder in its file system, at its revision."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.kind}/{self.id}{revision}/{self.folder}".rstrip("/")

    def pinned(self) -> HubPlace:
        """Return the place at the commit that its revision means now, so that a reader sees one state; buckets have
        none."""
        if self.kind == BUCKETS:
            return self
        info = self.file_system._api.repo_info(self.id, revision=self.revision, repo_type="dataset")
        return HubPlace(self.file_system, self.kind, self.id, str(info.sha), self.folder)


def hub_place(file_system: Any, root: str) -> HubPlace | None:
    """Return the place on the Hub of a path, None if the file system is another one.

    Raise CacheError if it is neither in a bucket nor in a dataset repository.
    """
    if "hf" not in protocols(file_system):
        return None
    kind, _, rest = root.partition("/")
    owner, _, rest = rest.partition("/")
    name, _, folder = rest.partition("/")
    name, _, revision = name.partition("@")
    if kind not in (BUCKETS, DATASETS) or not owner or not name:
        raise CacheError(
            f"hf://{root}: expected hf://buckets/OWNER/NAME or hf://datasets/OWNER/NAME[@REVISION], and a folder in it"
        )
    folder = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
    return HubPlace(file_system, kind, f"{owner}/{name}", revision or None, folder)


def send(place: HubPlace, files: Sequence[tuple[Path, str]], message: str) -> None:
    """Send local files to their names in a place, in this order: one call for a bucket, few commits for a dataset.

    Raise CacheError if a bucket accepts only a part of them; then none of the cache's commits among them is there.
    """
    api = place.file_system._api
    named = [(str(path), place.folder + name) for path, name in files]
    if place.kind == BUCKETS:
        _send_to_bucket(api, place, named)
    else:
        _send_to_dataset(api, place, named, message)
    place.file_system.invalidate_cache()


def _send_to_bucket(api: Any, place: HubPlace, named: list[tuple[str, str]]) -> None:
    from huggingface_hub.errors import BucketBatchError

    try:
        api.batch_bucket_files(place.id, add=named)
    except BucketBatchError as error:
        failed = {failure.get("path") for failure in error.failures}
        commits = [name for _, name in named if name.startswith(f"{place.folder}commits/") and name not in failed]
        if commits:  # without them, nobody looks for the files that failed
            api.batch_bucket_files(place.id, delete=commits)
        raise CacheError(
            f"hf://{place.root}: the Hub refused {len(error.failures)} of {len(named)} files; run the same command "
            "again, which continues"
        ) from error


def _send_to_dataset(api: Any, place: HubPlace, named: list[tuple[str, str]], message: str) -> None:
    from huggingface_hub import CommitOperationAdd

    parts = [named[start : start + FILES_PER_COMMIT] for start in range(0, len(named), FILES_PER_COMMIT)]
    for number, part in zip(itertools.count(1), parts):
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for path, name in part]
        of_parts = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        api.create_commit(
            repo_id=place.id,
            operations=operations,
            commit_message=message + of_parts,
            repo_type="dataset",
            revision=place.revision,
        )


def refusal(place: HubPlace) -> CacheError:
    """Return the error for a single file that is written to a dataset repository."""
    return CacheError(
        f"hf://{place.root}: a dataset repository is for publishing, since each write is a git commit: build into a "
        f"folder or into hf://buckets/OWNER/NAME, and then run: armada cache push CACHE hf://{place.root}"
    )
