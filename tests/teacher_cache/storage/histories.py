"""Random histories of two or three caches, compared with a plain dictionary of what was paid for.

Shards are written directly, without a teacher, an encoder or torch: a history of thirty steps takes half a second.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import (
    Cache,
    CacheError,
    ImageRow,
    Provenance,
    Source,
    Spent,
    commit_features,
    commit_pictures,
    compact,
    image_key,
    index_rows,
    merge,
    missing_features,
    prompt_key,
    sha256,
    spec_digest,
    verify,
)
from teacher_cache.building.completeness import require_complete
from teacher_cache.storage.dataset_card import write_card

TEACHER_SPEC, ENCODER_SPEC = {"kind": "t"}, {"kind": "e", "dimension": 2, "dtype": "float16"}
TEACHER = Source(TEACHER_SPEC, spec_digest(TEACHER_SPEC), {"licence": "CC0"})
ENCODER = Source(ENCODER_SPEC, spec_digest(ENCODER_SPEC))
PROMPTS = [f"prompt {number}" for number in range(9)]
KEYS = {image_key(TEACHER.digest, prompt_key(prompt)): prompt for prompt in PROMPTS}
NOW = 4e9  # in seconds since the epoch: later than the times of all files
Rows = dict[str, str]  # image key -> digest of the canonical picture


@dataclass
class Home:
    """One cache of a history, and what must be in it."""

    folder: Path
    rows: Rows = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)  # ledger -> calls
    is_whole: bool = True  # nothing was lost here, and no copy was interrupted

    def cache(self) -> Cache:
        return Cache(str(self.folder))


class History:
    """Caches on which random steps are taken. With `constant` facts, equal requests give equal bytes everywhere."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.constant = self.chance.random() < 0.5
        self.homes = [Home(folder / f"cache{number}") for number in range(self.chance.choice((2, 2, 3)))]
        self.tars: dict[str, Rows] = {}  # by the tar's path, which names its content
        self.paid: dict[str, set[str]] = {key: set() for key in KEYS}  # the digests of all pictures ever drawn
        self.steps: list[str] = []
        self.time = NOW
        for home in self.homes:
            Cache(str(home.folder), create=True).register(TEACHER, ENCODER)

    def step(self) -> None:
        """Take a random step, and compare every cache with its dictionary."""
        steps: list[Callable[[Home, Home], None]] = [self.build, self.build, self.compact, self.compact, self.vacuum]
        steps += [self.merge, self.copy, self.lose, self.damage, self.copy_some]
        step, (home, other) = self.chance.choice(steps), self.chance.sample(self.homes, 2)
        self.steps.append(f"{step.__name__} {home.folder.name} {other.folder.name}")
        step(home, other)
        for checked in self.homes:
            self.check(checked)

    def build(self, home: Home, _: Home) -> None:
        """Pay for some of the prompts that the cache lacks, and for nothing else."""
        cache, provenance = home.cache(), self.provenance()
        wanted = self.chance.sample(sorted(KEYS), self.chance.randint(1, 5))
        try:
            require_complete(cache, False, provenance)
        except CacheError:
            if self.chance.random() < 0.5:
                return  # wait for the rest of a copy
            require_complete(cache, True, provenance)
            require_complete(Cache(cache.store.url), False, provenance)
        known = set(cache.images(TEACHER, [])["image_key"].to_pylist())
        new = sorted(set(wanted) - known)
        assert set(new) == set(wanted) - home.rows.keys(), "a picture that was paid for would be paid again"
        while new:
            some, new = new[:3], new[3:]
            pictures = [self.picture(key) for key in some]
            rows = [self.row(key, picture) for key, picture in zip(some, pictures, strict=True)]
            ledger = home.folder.name
            home.spent[ledger] = home.spent.get(ledger, 0) + len(some)
            spent = [Spent(ledger, TEACHER.digest, home.spent[ledger], home.spent[ledger] * 0.5)]
            commit_pictures(cache, TEACHER, rows, pictures, provenance, spent=spent)
            home.rows |= {row.image_key: row.image_sha256 for row in rows}
            for row in rows:
                self.paid[row.image_key].add(row.image_sha256)
        self.encode(cache, provenance)
        write_card(cache)
        cache.log.write_checkpoint()

    def encode(self, cache: Cache, provenance: Provenance) -> None:
        for part in index_rows(cache, missing_features(cache, TEACHER, ENCODER), self.chance.randint(1, 4)):
            digests = part["image_sha256"].to_pylist()
            features = np.array([[int(digest[:2], 16) + 1, 1] for digest in digests], np.float32)
            commit_features(cache, TEACHER, ENCODER, part, features, provenance)
        assert not missing_features(cache, TEACHER, ENCODER).num_rows

    def compact(self, home: Home, _: Home) -> None:
        compact(home.cache(), shard_rows=self.chance.choice((2, 3, 5, 100)), clock=self.clock)

    def vacuum(self, home: Home, _: Home) -> None:
        cache = home.cache()
        cache.commits()
        rows, unknown = self.chance.choice((2, 5, 100)), cache.log.absent or cache.log.unreadable
        with pytest.raises(CacheError, match="a commit can't be read") if unknown else contextlib.nullcontext():
            done = compact(cache, shard_rows=rows, vacuum=True, retain_hours=0, clock=self.clock)
            assert not (home.is_whole and done.kept), self.steps

    def merge(self, home: Home, other: Home) -> None:
        merge([other.cache()], home.cache())
        self.unite(home, other)

    def copy(self, home: Home, other: Home) -> None:
        """Copy one folder over the other, as `cp -r a/. b/` does."""
        shutil.copytree(other.folder, home.folder, dirs_exist_ok=True)
        self.unite(home, other)

    def copy_some(self, home: Home, other: Home) -> None:
        """Copy some files, in any order: what was here stays, and what is whole counts."""
        files = [path.relative_to(other.folder) for path in sorted(other.folder.rglob("*")) if path.is_file()]
        for name in self.chance.sample(files, self.chance.randint(0, len(files))):
            (home.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(other.folder / name, home.folder / name)
        before, home.rows, home.is_whole = home.rows, self.physical(home), False
        assert all(home.rows[key] <= digest for key, digest in before.items()), "a copy made a row vanish"
        home.spent |= self.ledgers(home)

    def lose(self, home: Home, _: Home) -> None:
        files = [path for path in sorted(home.folder.rglob("*")) if path.suffix in (".tar", ".parquet")]
        for path in self.chance.sample(files, min(len(files), self.chance.randint(1, 2))):
            path.unlink()
        before, home.rows, home.is_whole = home.rows, self.physical(home), False
        assert home.rows.keys() <= before.keys()

    def damage(self, home: Home, _: Home) -> None:
        """Damage a shard that counts and repair the cache: only rows of this shard may be lost."""
        shards = [shard for shard in home.cache().shards() if home.cache().state.is_whole(shard)]
        if not shards:
            return
        shard = self.chance.choice(shards)
        path = home.folder / self.chance.choice(list(shard.files())).path
        data = bytearray(path.read_bytes())
        data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(data if self.chance.random() < 0.5 else data[: len(data) // 2])
        hurt = self.rows_of(home, shard.path) if path.suffix == ".tar" else {}
        verify(str(home.folder), repair=True, clock=self.clock)
        before, home.rows, home.is_whole = home.rows, self.visible(home), False
        home.spent |= self.ledgers(home)  # commits that a copy did not bring are restored from its checkpoint
        assert before.keys() - home.rows.keys() <= hurt.keys(), "a repair lost a sound row"

    def check(self, home: Home) -> None:
        """Compare what readers see with the dictionary and with the files that are there."""
        assert self.visible(home) == home.rows, self.steps
        assert self.physical(home) == home.rows, self.steps
        assert all(digest in self.paid[key] for key, digest in home.rows.items()), self.steps
        calls = sum(home.spent.values())
        assert home.cache().spent(TEACHER.digest) == (calls, calls * 0.5), self.steps
        own = home.spent.get(home.folder.name, 0)
        assert home.cache().spent(TEACHER.digest, without=home.folder.name)[0] == calls - own

    def visible(self, home: Home) -> Rows:
        cache = home.cache()
        images = cache.images(TEACHER, [])
        return dict(zip(images["image_key"].to_pylist(), images["image_sha256"].to_pylist(), strict=True))

    def physical(self, home: Home) -> Rows:
        """Return the smallest digest of each key over all whole tars that a commit of the folder names."""
        rows: Rows = {}
        for facts in self.commits(home):
            for shard in facts["added"]:
                if shard["path"].endswith(".tar") and all(
                    self.is_there(home, file) for file in (shard, shard["index"])
                ):
                    for key, digest in self.rows_of(home, shard["path"]).items():
                        rows[key] = min(digest, rows.get(key, digest))
        return rows

    def commits(self, home: Home) -> Iterator[dict]:
        for path in home.folder.glob("commits/*.json"):
            yield json.loads(path.read_bytes())

    def ledgers(self, home: Home) -> dict[str, int]:
        found: dict[str, int] = {}
        for facts in self.commits(home):
            for record in facts["spent"]:
                found[record["ledger"]] = max(found.get(record["ledger"], 0), record["calls"])
        return found

    @staticmethod
    def is_there(home: Home, file: dict) -> bool:
        path = home.folder / file["path"]
        return path.exists() and path.stat().st_size == file["bytes"]

    def rows_of(self, home: Home, path: str) -> Rows:
        if path not in self.tars:
            with tarfile.open(home.folder / path) as tar:
                pictures = {m.name.split(".")[0]: tar.extractfile(m).read() for m in tar if not m.name.endswith("json")}
            self.tars[path] = {key: sha256(picture) for key, picture in pictures.items()}
        return self.tars[path]

    def unite(self, home: Home, other: Home) -> None:
        for key, digest in other.rows.items():
            home.rows[key] = min(digest, home.rows.get(key, digest))
        for ledger, calls in other.spent.items():
            home.spent[ledger] = max(home.spent.get(ledger, 0), calls)
        home.is_whole = home.is_whole and other.is_whole
        if not home.is_whole:  # one may have a tar whose index the other has
            united, home.rows = home.rows, self.physical(home)
            assert all(home.rows[key] <= digest for key, digest in united.items()), self.steps

    def picture(self, key: str) -> bytes:
        return key[:9].encode() + (b"" if self.constant else self.chance.randbytes(3))

    def row(self, key: str, picture: bytes) -> ImageRow:
        seconds = 1.0 if self.constant else self.chance.random()
        return ImageRow(key, prompt_key(KEYS[key]), KEYS[key], 0, sha256(picture), "png", 0.5, seconds, 1)

    def provenance(self) -> Provenance:
        return Provenance((lambda: NOW) if self.constant and self.chance.random() < 0.5 else self.clock)

    def clock(self) -> float:
        """Return a later time at each call, the same times in each run of a history."""
        self.time += 1.0
        return self.time
