"""The statements of the spool's transactions, each for many rows: claims, answers, costs, and claims given back.

One statement for many rows lets other threads run while SQLite works; a statement per row would make each of them wait.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from teacher_cache.spool.budget import Budget
from teacher_cache.spool.locks import BATCH
from teacher_cache.spool.rows import COLUMNS, WANTED_COLUMNS, Claim, Claims, Wanted
from teacher_cache.teachers import Failure, Picture

SPENT = "SELECT calls, cost_usd FROM spent WHERE teacher = ?"
RESERVED = "SELECT coalesce(sum(rows_left), 0), coalesce(sum(rows_left * price_usd), 0) FROM batches WHERE teacher = ?"
_FACTS = ", ".join(f"'{name}', rows.{name}" for name in f"teacher, state, {COLUMNS}".split(", "))
_STORE_PICTURES = (  # with their rows as JSON
    f"INSERT OR REPLACE INTO pictures SELECT given.key, json_object({_FACTS}), given.data"
    " FROM given JOIN rows ON rows.image_key = given.key"
)
_VALUES = 900  # in one statement; old versions of SQLite take 999

Answered = tuple[Picture | Failure, str]  # with the SHA-256 of the picture's bytes, "" for a failure


def claim_all(db: sqlite3.Connection, claims: Claims, owner: str, is_alive: Callable[[str], bool]) -> list[Claim]:
    """Claim requests for the build `owner`, in their order; see `Spool.claim_all`."""
    rows = _rows_of(db, [wanted.request.image_key for wanted in claims.wanted])
    absent = [wanted.request.image_key for wanted in claims.wanted if wanted.request.image_key not in rows]
    sealed = _sealed_after(db, absent, claims.planned)
    found = [_sums(db, query, one) for query in (SPENT, RESERVED) for one in (claims.teacher, *claims.budget.shared)]
    calls, usd = sum(calls for calls, _ in found), sum(usd for _, usd in found)
    results: list[Claim] = []
    granted: list[tuple[Wanted, int]] = []
    for wanted in claims.wanted:
        key = wanted.request.image_key
        state, holder, attempts = rows.get(key, ("", "", wanted.attempts))
        if key in sealed or state not in ("", "claimed"):
            results.append("done")
        elif state and holder != owner and is_alive(holder):
            results.append("in a batch" if holder.startswith(BATCH) else "held")
        elif not claims.budget.allows(calls, usd):
            results.append("spent")
        else:
            calls, usd = calls + 1, usd + (claims.budget.price_usd or 0.0)
            rows[key] = "claimed", owner, attempts + 1
            granted.append((wanted, attempts + 1))
            results.append("granted")
    _insert_claims(db, claims.teacher, granted, owner, claims.budget)
    return results


def _rows_of(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, tuple[str, str, int]]:
    """Return the state, the owner and the attempts of the keys that have a row."""
    query = "SELECT image_key, state, owner, attempts FROM rows WHERE image_key IN"
    return {key: (state, owner, attempts) for key, state, owner, attempts in _select(db, query, keys)}


def _sealed_after(db: sqlite3.Connection, keys: Sequence[str], planned: int) -> set[str]:
    query = f"SELECT DISTINCT image_key FROM calls WHERE sealed > {int(planned)} AND image_key IN"
    return {key for (key,) in _select(db, query, keys)}


def _insert_claims(
    db: sqlite3.Connection, teacher: str, granted: Sequence[tuple[Wanted, int]], owner: str, budget: Budget
) -> None:
    insert_rows(db, teacher, granted, owner)
    calls = ((teacher, wanted.request.image_key, budget.price_usd, owner) for wanted, _ in granted)
    _insert(db, "INSERT INTO calls(teacher, image_key, cost_usd, build)", calls)


def insert_rows(db: sqlite3.Connection, teacher: str, granted: Sequence[tuple[Wanted, int]], owner: str) -> None:
    """Make rows that their owner has claimed, of requests with their attempts, this one included."""
    last = {wanted.request.image_key: (wanted, attempts) for wanted, attempts in granted}
    rows = ((w.request.image_key, *w.columns, teacher, "claimed", owner, number) for w, number in last.values())
    names = f"rows(image_key, {WANTED_COLUMNS}, teacher, state, owner, attempts)"
    _insert(db, f"INSERT OR REPLACE INTO {names}", rows)


def store_all(db: sqlite3.Connection, answers: Sequence[Answered]) -> None:
    """Store answers with bytes, cost and state."""
    facts = []
    for answer, digest in answers:
        if isinstance(answer, Picture):
            kind: tuple[str, ...] = ("drawn", answer.suffix, digest, "", "")
        else:
            kind = ("failed", "", "", answer.reason, answer.message)
        facts.append((answer.image_key, *kind, answer.cost_usd, answer.seconds))
    names = ("state", "suffix", "sha256", "reason", "message", "cost_usd", "seconds")
    for marks, values in _chunks(facts):
        db.execute(
            f"WITH given(image_key, {', '.join(names)}) AS (VALUES {marks}) "
            f"UPDATE rows SET owner = NULL, {', '.join(f'{name} = given.{name}' for name in names)} "
            "FROM given WHERE rows.image_key = given.image_key",
            values,
        )
    if db.execute("SELECT 1 FROM tasks LIMIT 1").fetchone():
        db.executemany("DELETE FROM tasks WHERE image_key = ?", [(answer.image_key,) for answer, _ in answers])
    pictures = {answer.image_key: answer.data for answer, _ in answers if isinstance(answer, Picture)}
    for marks, values in _chunks(pictures.items()):
        db.execute(f"WITH given(key, data) AS (VALUES {marks}) {_STORE_PICTURES}", values)
    price_all(db, [answer for answer, _ in answers])


def price_all(db: sqlite3.Connection, answers: Iterable[Picture | Failure]) -> None:
    """Write the cost of each answer that has one to the last call for its key."""
    query = "UPDATE calls SET cost_usd = ? WHERE id = (SELECT max(id) FROM calls WHERE image_key = ?)"
    db.executemany(query, [(answer.cost_usd, answer.image_key) for answer in answers if answer.cost_usd is not None])


def give_back(db: sqlite3.Connection, owner: str, teacher: str, keys: Sequence[str]) -> None:
    """Undo the last claim of each key, whose call was not sent: its row, its call and their part of the sums."""
    query = f"SELECT max(id) FROM calls WHERE build = '{owner}' AND sealed IS NULL AND image_key IN"
    numbers = [number for (number,) in _select(db, query, keys, "GROUP BY image_key")]
    calls = [usd or 0.0 for (usd,) in _select(db, "SELECT cost_usd FROM calls WHERE id IN", numbers)]
    db.execute(
        "UPDATE spent SET calls = calls - ?, cost_usd = cost_usd - ? WHERE teacher = ?",
        (len(calls), sum(calls), teacher),
    )
    db.executemany("DELETE FROM calls WHERE id = ?", [(number,) for number in numbers])
    query = "DELETE FROM rows WHERE image_key = ? AND state = 'claimed' AND owner = ?"
    db.executemany(query, [(key, owner) for key in keys])


def spent(rows: Sequence[tuple[Any, ...]]) -> tuple[int, float]:
    """Return the number of calls ever reserved for a teacher, and their cost in dollars, from the result of SPENT,
    or those reserved for batches, from that of RESERVED."""
    return (int(rows[0][0]), round(rows[0][1], 9)) if rows else (0, 0.0)


def _sums(db: sqlite3.Connection, query: str, teacher: str) -> tuple[int, float]:
    return spent(db.execute(query, (teacher,)).fetchall())


def _select(db: sqlite3.Connection, query: str, values: Sequence[Any], rest: str = "") -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query that ends with IN, for many values."""
    for start in range(0, len(values), _VALUES):
        some = values[start : start + _VALUES]
        yield from db.execute(f"{query} ({', '.join('?' * len(some))}) {rest}", some).fetchall()


def _insert(db: sqlite3.Connection, into: str, rows: Iterable[tuple[Any, ...]]) -> None:
    for marks, values in _chunks(rows):
        db.execute(f"{into} VALUES {marks}", values)


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the marks and the values of as many rows as a statement takes."""
    pending = iter(rows)
    for first in pending:
        some = [first, *itertools.islice(pending, _VALUES // len(first) - 1)]
        mark = f"({', '.join('?' * len(first))})"
        yield ", ".join([mark] * len(some)), [value for row in some for value in row]
