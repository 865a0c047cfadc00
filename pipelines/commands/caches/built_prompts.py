"""`armada cache prompts`: the prompts that a cache was built from, for a colleague who has only the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pipelines.commands.options import AsJson, Url
from pipelines.files import check_new_file, json_text, writing

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".csv", ".parquet")


def prompts(
    url: Url,
    out: Annotated[
        Optional[Path], typer.Option("--out", metavar="FILE", help="Write them here: .jsonl, .csv or .parquet.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the prompts that a cache was built from, with the number of their pictures and of failed ones, and with what
    was drawn in a text's place if a teacher has a recipe.

    `armada cache build FILE` takes the file that --out writes.
    """
    from teacher_cache import ArmadaError, Cache, built_prompts

    if out is not None and out.suffix not in SUFFIXES:
        raise ArmadaError(f"--out: expected a file ending in {', '.join(SUFFIXES)}, found {out}")
    if out is not None:
        check_new_file(out, force)
    table = built_prompts(Cache(url))
    facts = {"prompts": table.num_rows, **{name: sum(table[name].to_pylist()) for name in ("samples", "failed")}}
    if out is not None:
        _write(table, out)
        words = f"{facts['prompts']:,} prompts with {facts['samples']:,} pictures: {out}"
        typer.echo(json_text({**facts, "out": str(out)}) if as_json else words)
    elif as_json:
        typer.echo(json_text({**facts, "rows": table.to_pylist()}))
    else:
        for row in _rows(table):
            typer.echo(json_text(row))  # in ASCII: a prompt of a stranger's cache can't move a terminal's cursor


def _rows(table: pa.Table) -> Any:
    return (row for batch in table.to_batches() for row in batch.to_pylist())


def _write(table: pa.Table, path: Path) -> None:
    """Write the prompts into a file that is complete or absent."""
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    from teacher_cache import atomic_file

    with writing(path), atomic_file(path) as draft:
        if path.suffix == ".csv":
            csv.write_csv(table, draft)
        elif path.suffix == ".parquet":
            parquet.write_table(table, draft)
        else:
            with draft.open("w", encoding="utf-8") as stream:
                stream.writelines(json_text(row, ensure_ascii=False) + "\n" for row in _rows(table))
