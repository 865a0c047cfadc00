"""The parts of a task card: where its rows come from, how they are split, where a row's choices stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Percent = Annotated[int, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageSource(_Strict):
    """A CSV inside an installed package."""

    package: str
    distribution: str
    extra: str
    path: str
    encoding: str = "utf-8"
    licence: str


class HubSource(_Strict):
    """A dataset on the Hugging Face hub, or a local folder that `datasets` can load, without any script of its own."""

    hub: str
    config: str | None = None
    revision: str | None = None
    data_dir: str | None = None
    data_files: dict[str, list[str]] | None = None  # by split
    licence: str


class GeneratedSource(_Strict):
    """Rows made by reasoning-gym: `datasets` by name, `rows` of each from `seed`."""

    generator: str
    datasets: list[str]
    rows: Annotated[int, Field(gt=0)]
    seed: int
    licence: str


def _kind_of_source(value: Any) -> str | None:
    kinds = ("package", "hub", "generator")
    keys = value if isinstance(value, Mapping) else vars(value)
    return next((kind for kind in kinds if kind in keys), None)


Source = Annotated[
    Annotated[PackageSource, Tag("package")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[GeneratedSource, Tag("generator")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source",
        custom_error_message="Input should have the key package, hub or generator",
    ),
]


class HashSplit(_Strict):
    """Percentages; a row's split is decided by the digest of its text, never by its place."""

    train: Percent
    validation: Percent
    test: Percent

    @model_validator(mode="after")
    def _adds_up(self) -> HashSplit:
        total = self.train + self.validation + self.test
        if total != 100:
            raise ValueError(f"split: expected percentages that add up to 100, found {total}")
        return self


class NamedSplit(_Strict):
    """The source's own splits. `validation` is the percentage of the training rows that an epoch is picked on; `test`
    is reported, as is each of `also`, by its name."""

    train: str | None = None
    validation: Percent
    test: str
    also: dict[str, str] = {}


def _kind_of_split(value: Any) -> str:
    test = value.get("test") if isinstance(value, Mapping) else value.test
    return "named" if isinstance(test, str) else "percentages"


Split = Annotated[
    Annotated[HashSplit, Tag("percentages")] | Annotated[NamedSplit, Tag("named")], Discriminator(_kind_of_split)
]


class Choices(_Strict):
    """Where a row's choices stand: one column each, or one `column` with a list of them (`a.b` for `b` inside `a`).
    `keys` are the values of the label, a choice each, or the name of a column with such a list."""

    columns: Annotated[list[str], Field(min_length=2)] | None = None
    column: str | None = None
    keys: list[str] | str

    @model_validator(mode="after")
    def _one_way(self) -> Choices:
        if (self.columns is None) == (self.column is None):
            found = "both" if self.columns else "none"
            raise ValueError(f"choices: expected either columns or column, found {found}")
        return self

    @property
    def all_columns(self) -> list[str]:
        """The top-level columns that are read."""
        nested = [self.column] if self.column else []
        nested += [self.keys] if isinstance(self.keys, str) else []
        return list(dict.fromkeys([*(self.columns or []), *(name.partition(".")[0] for name in nested)]))
