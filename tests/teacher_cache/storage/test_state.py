"""The state of a cache as a pure function: what counts, what is missing, and what was spent."""

import itertools
import time

import pytest

from teacher_cache import Spent
from teacher_cache.format.commits import Commit, Entry, Shard
from teacher_cache.keys import sha256
from teacher_cache.storage.state import cache_state, spent_in


def shard(name):
    digest = sha256(name.encode())
    return Shard(f"features/t/e/shards/{digest[:32]}.parquet", 9, 1, digest)


def tar(name, index):
    digest, of_index = sha256(name.encode()), sha256(index.encode())
    described = Shard(f"images/t/indexes/{of_index[:32]}.parquet", 9, 1, of_index)
    return Shard(f"images/t/shards/{digest[:32]}.tar", 9, 1, digest, described)


def commit(name, added=(), replaced=(), lost=(), spent=()):
    return Commit(sha256(name.encode()), tuple(added), tuple(replaced), tuple(lost), tuple(spent))


def entry(of, added):
    return Entry(of.digest, added.path)


def listing(*shards):
    return {file.path: file.bytes for one in shards for file in one.files()}


A, B, NEW = shard("a"), shard("b"), shard("new")
ONE, TWO = commit("one", [A]), commit("two", [B])
COMPACTED = commit("compacted", [NEW], [entry(ONE, A), entry(TWO, B)])
PATHS = {one.path: name for name, one in {"A": A, "B": B, "NEW": NEW}.items()}


def live(commits, *files):
    return "".join(sorted(PATHS[path] for path in cache_state(commits, listing(*files)).live))


def missing(commits, *files):
    return "".join(sorted(PATHS[one.path] for one in cache_state(commits, listing(*files)).missing))


def test_a_replacement_counts_only_while_what_replaces_is_there_with_its_size():
    commits = [ONE, TWO, COMPACTED]
    assert live(commits, A, B, NEW) == "NEW"
    assert live(commits, NEW) == "NEW"
    assert live(commits, A, B) == "ABNEW"
    truncated = listing(A, B, NEW) | {NEW.path: 8}
    assert cache_state(commits, truncated).live.keys() >= {A.path, B.path}


def test_what_is_added_after_a_replacement_lives_even_with_the_same_path():
    again = commit("again", [A])
    assert live([ONE, TWO, COMPACTED, again], A, B, NEW) == "ANEW"
    same = commit("same bytes", [A], [entry(ONE, A)])
    assert live([ONE, same], A) == "A"


def test_the_order_of_the_commits_does_not_matter():
    commits = [ONE, TWO, COMPACTED, commit("again", [A]), commit("last", [B], [entry(COMPACTED, NEW)])]
    states = [cache_state(order, listing(A, B, NEW)) for order in itertools.permutations(commits)]
    assert all((state.live, state.missing) == (states[0].live, states[0].missing) for state in states)


def test_missing_are_the_shards_whose_rows_nothing_else_has():
    commits = [ONE, TWO, COMPACTED]
    assert missing(commits, NEW) == ""
    assert missing(commits, A, B) == ""  # their rows are those of the compacted shard
    assert missing(commits, A) == "B"
    assert missing([COMPACTED]) == "NEW"  # the commits that it replaced have not arrived


def test_what_is_known_to_be_lost_is_not_missing_and_counts_again_when_it_returns():
    gone = commit("gone", [], [], [entry(ONE, A)])
    assert missing([ONE, TWO, gone], B) == ""
    assert live([ONE, TWO, gone], A, B) == "AB"


def test_a_loss_that_is_accepted_does_not_complete_the_commit_that_replaced():
    """Otherwise accepting the loss of a compacted shard would make the shards that it replaced vanish."""
    gone = commit("gone", [], [], [entry(COMPACTED, NEW)])
    assert live([ONE, TWO, COMPACTED, gone], A, B) == "ABNEW"
    assert missing([ONE, TWO, COMPACTED, gone], A, B) == ""


def test_a_tar_counts_with_whichever_of_its_indexes_is_there():
    first, second = tar("t", "by one pyarrow"), tar("t", "by another")
    commits = [commit("x", [first]), commit("y", [second])]
    for there in (first, second):
        state = cache_state(commits, listing(there))
        assert list(state.live.values()) == [there]
        assert state.missing == ()
    assert len(cache_state(commits, {first.path: 9}).missing) == 1


def test_files_that_may_be_removed_are_those_without_a_live_entry():
    state = cache_state([ONE, TWO, COMPACTED, commit("again", [A])], listing(A, B, NEW))
    assert list(state.replaced_files()) == [B.path]
    assert [replacing for _, replacing in state.replacing(entry(TWO, B))] == [NEW]


def test_what_was_spent_is_the_largest_record_of_each_ledger():
    records = [("a", 3, 0.3), ("a", 5, 0.5), ("b", 2, 0.2), ("a", 4, 0.4)]
    commits = [commit(str(n), spent=[Spent(of, "t", calls, usd)]) for n, (of, calls, usd) in enumerate(records)]
    assert spent_in(commits * 2, "t") == (7, pytest.approx(0.7))
    assert spent_in(commits, "t", without="a") == (2, 0.2)
    assert spent_in(commits, "another") == (0, 0.0)


def test_a_chain_of_ten_thousand_replacements_is_resolved_in_linear_time():
    previous, commits = commit("0", [A]), []
    for number in range(10_000):
        commits.append(previous)
        last = previous.added[0]
        previous = commit(str(number + 1), [shard(str(number))], [entry(previous, last)])
    final = previous.added[0]
    started = time.process_time()
    state = cache_state([*commits, previous][::-1], listing(final))
    assert time.process_time() - started < 3
    assert list(state.live) == [final.path]
    assert state.missing == ()
