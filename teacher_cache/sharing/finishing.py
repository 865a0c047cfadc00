"""The end of a copy: the derived files of the target, its card and its checkpoint of commits."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.files.hub import DATASETS
from teacher_cache.files.store_errors import UnavailableStoreError
from teacher_cache.sharing.side import Side
from teacher_cache.sharing.viewer import viewer_data_files, viewer_files
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.commit_log import checkpoint_file
from teacher_cache.storage.dataset_card import card_text, write_card


@dataclass
class Ending:
    """What a copy does last: `files` go with the commits, in the same call to the Hub; `afterwards` does the rest."""

    target: Side
    texts: Mapping[str, bytes]  # of the commits that are sent, by digest
    files: list[tuple[str, bytes]] = field(default_factory=list)

    def afterwards(self) -> None:
        """Write what is read from the target. A store that refuses it keeps the cache as it is: all of it is derived.

        Raise UnavailableStoreError if the store answers nothing any more.
        """
        store = self.target.store
        if store.hub and store.hub.kind == DATASETS:
            return
        try:
            self.target.log.learn(self.texts)
            self.target.log.refresh()
            if not any(name == "README.md" for name, _ in self.files):
                write_card(Cache(store.url))
            self.target.log.write_checkpoint()
        except UnavailableStoreError:
            raise
        except CacheError:
            pass  # a damaged shard, which is named elsewhere


def send_viewer(source: Side, target: Side) -> None:
    """Send the pictures for the viewer of a dataset repository. What is damaged is named elsewhere."""
    if source.store.is_local and target.store.hub and target.store.hub.kind == DATASETS:
        with contextlib.suppress(NoFileError), viewer_files(Cache(source.store.url), target.store) as files:
            if files:
                target.store.publish_all(files, "armada cache push: pictures for the viewer")


def finish(source: Side, target: Side, texts: Mapping[str, bytes], is_mirror: bool) -> Ending:
    """Return what to do last. With `is_mirror` the target has nothing that the source lacks, so that the card of a
    local source is also the target's."""
    ending = Ending(target, texts)
    hub = target.store.hub
    is_dataset = hub is not None and hub.kind == DATASETS
    if (is_mirror and source.store.is_local) or is_dataset:
        with contextlib.suppress(CacheError):
            cache = Cache(source.store.url)
            shown = viewer_data_files(cache, target.store) if is_dataset and source.store.is_local else ""
            card = card_text(cache, shown)
            ending.files.append(("README.md", card.encode("utf-8")))
    if is_dataset:
        every = {digest: target.log.text(digest) for digest in target.commits} | dict(texts)
        ending.files.append(checkpoint_file(every))
    return ending
