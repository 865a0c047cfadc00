"""Task cards: the description of a task in one YAML file. `data/tasks/NAME.yaml` contains the card NAME.

The texts of the student and the prompt of the teacher are templates over the same columns, so the teacher never gets
information that the student does not get.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from distill.cards.card_schema import Choices, Mark, Named, NamedSplit, Replacement, Source, Split, Without, in_one_line
from distill.cards.templates import fields_of, names_in
from distill.cards.yaml_files import faults_in_words, read_yaml
from teacher_cache import ArmadaError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "_tasks", _PACKAGE.parent / "data" / "tasks")  # in an installed wheel, in a checkout
CHOICE = "choice"  # the template field for one of the choices of the row

Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "mcc",
    "pearson",
    "spearman",
    "micro_f1",
    "subset_accuracy",
    "mean_average_precision",
    "exact_number",
    "rouge_l",
]
METRICS_OF: dict[str, tuple[Metric, ...]] = {
    "classification": ("accuracy", "f1", "macro_f1", "mcc"),
    "multi-label": ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision"),
    "regression": ("pearson", "spearman"),
    "similarity": ("pearson", "spearman"),
    "choice": ("accuracy",),
    "generation": ("exact_number", "rouge_l"),
}


class Card(BaseModel):
    """A task.

    A row of type `similarity` is a pair of texts with a score, from which an embedding student learns: the higher, the
    more similar. A row of type `choice` becomes one row per choice, which the student scores independently. This works
    for encoders and decoders alike, and every choice gets its own picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    type: Literal["classification", "multi-label", "regression", "similarity", "choice", "generation"]
    source: Source
    clean: Literal["none", "ftfy"] = "none"
    text: Annotated[list[str], Field(min_length=1, max_length=2)]  # str.format templates of the student's texts
    label: str = ""  # the column with the answer; of a multi-label task, with a list of labels
    labels: Annotated[list[Named], Field(min_length=2)] | None = None  # the classes, in the order of their ids
    label_columns: Annotated[list[str], Field(min_length=2)] | None = None  # instead of `label`: 0 or 1 for each label
    separator: Annotated[str, Field(min_length=1)] | None = None  # of the labels in a text; without it, a list is read
    choices: Choices | None = None
    prompt: str  # the str.format template of the teacher's prompt; a teacher with a short window reads its start only
    without: Without | None = None  # other templates for the rows in which a column is empty
    replace: dict[str, list[Replacement]] = {}  # by field, in order, before the templates are filled
    prompt_replace: dict[str, list[Replacement]] = {}  # the same for the prompt alone, after `replace`
    marks: dict[str, list[Mark]] = {}  # by field: spans that are marked in what the student reads
    split: Split
    train_on: str | None = None  # the card that provides training and validation rows, if this one has only a test
    metrics: Annotated[list[Metric], Field(min_length=1)]  # the first one chooses the best epoch
    _home: Path | None = PrivateAttr(default=None)

    @field_validator("labels", mode="before")
    @classmethod
    def _may_be_numbers(cls, labels: Any) -> Any:
        if not isinstance(labels, list):
            return labels
        return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in labels]

    @field_validator("name", "title")
    @classmethod
    def _can_be_shown(cls, text: str) -> str:
        return in_one_line(text)

    @field_validator("text")
    @classmethod
    def _are_templates(cls, text: list[str]) -> list[str]:
        for template in text:
            try:
                names = fields_of(template)
            except ValueError as error:
                raise ValueError(f"text: {error}") from None
            if not names:
                raise ValueError(f"text: expected a template with a column in braces, found {template!r}")
        return text

    @model_validator(mode="after")
    def _prompt_sees_what_the_student_sees(self) -> Card:
        for key, prompt, text in self._templates:
            try:
                wanted, found = set().union(*map(fields_of, text)), fields_of(prompt)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
            if found != wanted:
                raise ValueError(f"{key}: expected exactly the fields {sorted(wanted)}, found {sorted(found)}")
        return self

    @property
    def _templates(self) -> list[tuple[str, str, list[str]]]:
        """The key, the prompt and the texts of each set of templates."""
        other = [("without.prompt", self.without.prompt, self.without.text)] if self.without else []
        return [("prompt", self.prompt, self.text), *other]

    @model_validator(mode="after")
    def _parts_name_fields(self) -> Card:
        named = {"replace": set(self.replace), "prompt_replace": set(self.prompt_replace), "marks": set(self.marks)}
        named["choices.fills"] = {self.choices.fills} if self.choices and self.choices.fills else set()
        if self.without:
            named["without.column"] = {self.without.column}
            named["without.text"] = set().union(*map(fields_of, self.without.text))
            if len(self.without.text) != len(self.text):
                raise ValueError(f"without.text: expected as many templates as text has, {len(self.text)}")
        for key, names in named.items():
            if unknown := sorted(names - self.fields):
                raise ValueError(f"{key}: expected fields of text ({', '.join(sorted(self.fields))}), found {unknown}")
        return self

    @model_validator(mode="after")
    def _fits_its_type(self) -> Card:
        has_classes = self.type in ("classification", "multi-label")
        wants_labels = has_classes and not self.label_columns
        if (wants_labels and not self.labels) or (self.labels and not has_classes):
            raise ValueError(f"labels: expected {'the classes' if wants_labels else 'none'} of a {self.type} task")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"labels: expected each class once, found {self.classes}")
        if (self.type == "choice") != (self.choices is not None):
            raise ValueError(f"choices: expected for a choice task and for no other, found a {self.type} task")
        wants_field = self.type == "choice" and not (self.choices and self.choices.fills)
        if wants_field != (CHOICE in self.fields):
            raise ValueError(
                f"text: expected {{{CHOICE}}} in the templates of a choice task that fills no blank and in no others"
            )
        wrong = [metric for metric in self.metrics if metric not in METRICS_OF[self.type]]
        if wrong:
            raise ValueError(f"metrics: expected some of {', '.join(METRICS_OF[self.type])}, found {', '.join(wrong)}")
        if "f1" in self.metrics and len(self.labels or []) != 2:
            raise ValueError(f"metrics: f1 is that of class 1 of two, found {len(self.labels or [])}; use macro_f1")
        if self.type == "similarity" and len(self.text) != 2:
            raise ValueError("text: expected two templates, one for each text of a pair, found one")
        if self.type == "generation" and len(self.text) != 1:
            raise ValueError("text: expected one template, because the answer continues it, found two")
        return self

    @model_validator(mode="after")
    def _names_its_answer(self) -> Card:
        columns, several = self.label_columns, self.type == "multi-label"
        if bool(self.label) == bool(columns):
            how = "either label or label_columns" if several else "the column with the answer"
            raise ValueError(f"label: expected {how}, found {'both' if columns else 'none'}")
        if not several and (columns or self.separator):
            key = "label_columns" if columns else "separator"
            raise ValueError(f"{key}: expected of a multi-label task only, found a {self.type} task")
        if columns and self.separator:
            raise ValueError("separator: expected beside label, a column with several labels, found label_columns")
        if columns and self.labels and len(self.labels) != len(columns):
            raise ValueError(f"labels: expected a name for each of {len(columns)} columns, found {len(self.labels)}")
        if torn := [name for name in self.classes if self.separator and self.separator in name]:
            raise ValueError(f"separator: expected a text that is in no label, found {self.separator!r} in {torn[0]!r}")
        return self

    @property
    def is_scored(self) -> bool:
        """True if a label is a number."""
        return self.type in ("regression", "similarity")

    @cached_property
    def fields(self) -> set[str]:
        """The fields of the templates of the student's texts."""
        return set().union(*(fields_of(template) for template in self.text))

    @property
    def columns(self) -> list[str]:
        """The columns that the source must have, in the order in which the card names them."""
        chosen = self.choices.all_columns if self.choices else []
        texts = [name for template in self.text for name in names_in(template) if name != CHOICE]
        marked = [column for marks in self.marks.values() for mark in marks for column in (mark.span, mark.word)]
        return list(dict.fromkeys([*texts, *marked, *chosen, *self.answer_columns]))

    @property
    def answer_columns(self) -> list[str]:
        """The column with the answer, or the columns of the labels of a multi-label task."""
        return self.label_columns or [self.label]

    @property
    def home(self) -> Path | None:
        """The folder at which relative paths in this card start; None for a card of this package."""
        return self._home

    def at(self, home: Path) -> Card:
        """Return this card as one of the user, whose relative paths start at a folder."""
        found = self.model_copy()
        found._home = home
        return found

    @property
    def reported(self) -> dict[str, str]:
        """The splits of the source that are reported in addition to the test split, by their names in the report."""
        return dict(self.split.also) if isinstance(self.split, NamedSplit) else {}

    @property
    def classes(self) -> list[str]:
        """The classes of the student's task head: none for a number, wrong and right for a choice."""
        return ["wrong", "right"] if self.type == "choice" else list(self.labels or self.label_columns or [])


def card_names() -> list[str]:
    """Return the names of all cards of this package, sorted."""
    return sorted(
        {path.relative_to(folder).with_suffix("").as_posix() for folder in FOLDERS for path in folder.rglob("*.yaml")}
    )


def load_card(name: str) -> Card:
    """Return the card of this package with this name. Raise ArmadaError if there is none, with the nearest name."""
    names = card_names()
    if name not in names:
        near = did_you_mean(name, names)
        rest = f"{near} `armada tasks` lists all" if near else f"; known: {', '.join(names)}"
        raise ArmadaError(f"no task {name!r}{rest}; a card of your own is named by its file, CARD.yaml")
    return read_card(next(folder / f"{name}.yaml" for folder in FOLDERS if (folder / f"{name}.yaml").is_file()))


def read_card(path: Path) -> Card:
    """Read the card in a file.

    Raise ArmadaError, with the file, the key, what was expected and what was found, if it is not valid.
    """
    try:
        return Card.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ArmadaError(faults_in_words(path, error, Card)) from None
