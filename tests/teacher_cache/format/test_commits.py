"""A commit is read exactly as it was written, and refused as a whole if one part of it is not what writes it."""

import json

import pytest

from teacher_cache.format.commits import (
    Commit,
    Entry,
    NewerFormatError,
    RefusedCommitError,
    Shard,
    Spent,
    check_shard,
    commit_bytes,
    parse_commit,
)
from teacher_cache.keys import canonical_json

A, B, C = (letter * 64 for letter in "abc")
TEACHER = "fake-0123456789abcdef"
INDEX = Shard(f"images/{TEACHER}/indexes/{B[:32]}.parquet", 900, 3, B)
TAR = Shard(f"images/{TEACHER}/shards/{A[:32]}.tar", 10_240, 3, A, INDEX)
FEATURES = Shard(f"features/{TEACHER}/enc-1/shards/{C[:32]}.parquet", 5, 0, C)
FAILURES = Shard(f"failures/{TEACHER}/{C[:32]}.parquet", 0, 1, C)
REWRITES = Shard(f"rewrites/chat-1/shards/{C[:32]}.parquet", 5, 1, C)
WHO = {"by": "me@here", "at": "2026-01-01T00:00:00+00:00"}
OTHER = INDEX.path.replace(TEACHER, "fake-2")
PARTS, TEXTS, SIZES = ("added", "replaced", "lost", "spent"), ("by", "at", "prompts"), ("bytes", "rows")
SPENT = Spent("ledger", A, 3, 0.25)
WHOLE = commit_bytes(
    [FEATURES, TAR],
    replaced=[Entry(B, TAR.path)],
    lost=[Entry(A, "x"), Entry(A, "x")],
    spent=[SPENT],
    prompts="p.txt",
    **WHO,
)


def read(data):
    return parse_commit(A, data)


def changed(change, data=WHOLE):
    """Return a commit in which `change` has changed the facts, as canonical JSON."""
    facts = json.loads(data)
    change(facts)
    return canonical_json(facts)


def test_a_commit_is_read_as_it_was_written():
    assert read(WHOLE) == Commit(
        A, (FEATURES, TAR), (Entry(B, TAR.path),), (Entry(A, "x"),), (SPENT,), WHO["by"], WHO["at"], "p.txt"
    )


def test_a_commit_is_pinned_to_its_bytes():
    text = commit_bytes([TAR], spent=[SPENT], **WHO).decode()
    index = f'{{"bytes":900,"path":"{INDEX.path}","rows":3,"sha256":"{B}"}}'
    assert text == (
        f'{{"added":[{{"bytes":10240,"index":{index},"path":"{TAR.path}","rows":3,"sha256":"{A}"}}],'
        '"at":"2026-01-01T00:00:00+00:00","by":"me@here","format":2,"prompts":"","replaced":[],'
        f'"spent":[{{"calls":3,"cost_usd":0.25,"ledger":"ledger","teacher":"{A}"}}]}}'
    )


def test_the_same_facts_in_any_order_and_number_are_the_same_commit():
    entries = [Entry(B, TAR.path), Entry(A, TAR.path), Entry(B, TAR.path)]
    other = Spent("another", A, 1, 0.0)
    one = commit_bytes([TAR, FEATURES], replaced=entries, lost=entries, spent=[SPENT, other], **WHO)
    again = commit_bytes([FEATURES, TAR], replaced=entries[::-1], lost=entries[:2], spent=[other, SPENT, SPENT], **WHO)
    assert one == again
    assert read(one).replaced == read(one).lost == (Entry(A, TAR.path), Entry(B, TAR.path))


def test_what_a_commit_may_lack_is_empty():
    found = read(commit_bytes([], **WHO))
    assert (found.added, found.replaced, found.lost, found.spent, found.prompts) == ((), (), (), (), "")
    assert b'"lost"' not in commit_bytes([], **WHO)


def test_rewritten_prompts_have_a_format_that_an_older_armada_stops_at():
    facts = [commit_bytes([shard], **WHO) for shard in (REWRITES, FEATURES)]
    facts.append(commit_bytes([REWRITES], replaced=[Entry(A, REWRITES.path)], **WHO))
    assert [json.loads(data)["format"] for data in facts] == [3, 2, 3]
    assert read(facts[0]).added == (REWRITES,)
    for data, format in ((facts[0], 2), (facts[1], 3), (facts[1], 1), (facts[1], 2.0), (facts[1], True)):
        with pytest.raises(RefusedCommitError, match=f"^it is not of format {3 if data is facts[0] else 2}$"):
            read(changed(lambda found, format=format: found.update(format=format), data))


def test_a_format_above_the_known_ones_is_that_of_a_newer_armada():
    for data in (changed(lambda facts: facts.update(format=4)), b'{"format": 4}'):
        with pytest.raises(NewerFormatError, match="it has format 4, and this armada knows 3; update armada"):
            read(data)
    for data in (b"[4]", b'{"format": "4"}', b"5"):
        with pytest.raises(RefusedCommitError):
            read(data)


def test_each_kind_of_shard_has_its_place():
    for shard in (TAR, FEATURES, FAILURES):
        assert read(commit_bytes([shard], **WHO)).added == (shard,)
        assert check_shard(shard) == shard
    assert [list(shard.files()) for shard in (TAR, FEATURES)] == [[TAR, INDEX], [FEATURES]]


@pytest.mark.parametrize(
    "path",
    [
        f"images/{TEACHER}/shards/{A[:32]}.parquet",
        f"images/{TEACHER}/indexes/{A[:32]}.parquet",
        f"images/{TEACHER}/shards/{A[:31]}.tar",
        f"images/Teacher/shards/{A[:32]}.tar",
        f"images/{'x' * 251}/shards/{A[:32]}.tar",
        f"images/a/b/shards/{A[:32]}.tar",
        f"/images/{TEACHER}/shards/{A[:32]}.tar",
        f"images/{TEACHER}/shards/{A[:32]}.tar\n",
        f"features/{TEACHER}/shards/{A[:32]}.parquet",
        f"failures/{TEACHER}/shards/{A[:32]}.parquet",
        f"rewrites/{TEACHER}/{A[:32]}.parquet",
        f"other/{TEACHER}/shards/{A[:32]}.tar",
        "",
    ],
)
def test_a_path_that_is_none_of_a_shards_is_refused_by_its_name(path):
    with pytest.raises(RefusedCommitError, match=r"it names .*, which is no shard of a cache"):
        check_shard(Shard(path, 1, 1, A))


def test_the_longest_name_of_a_teacher_is_250_letters():
    assert check_shard(Shard(f"images/{'x' * 250}/shards/{A[:32]}.tar", 1, 1, A))


@pytest.mark.parametrize("sha256", [A[:63], A + "a", "A" * 64, A[:31] + "b" + A[32:], B, ""])
def test_a_shard_that_is_not_named_by_its_content_is_refused(sha256):
    with pytest.raises(RefusedCommitError, match="is not named by its content"):
        check_shard(Shard(FAILURES.path.replace(C[:32], A[:32]), 1, 1, sha256))


@pytest.mark.parametrize(("bytes", "rows"), [(-1, 1), (1, -1), (1 << 62, 1), (1, 1 << 62)])
def test_a_size_that_can_not_be_is_refused(bytes, rows):
    with pytest.raises(RefusedCommitError, match="has no possible size"):
        check_shard(Shard(FEATURES.path, bytes, rows, C))
    assert check_shard(Shard(FEATURES.path, 0, (1 << 62) - 1, C))


def put(*place):
    """Return a change that puts the last part at the place that the others name."""

    def change(facts):
        *keys, name, value = place
        for key in keys:
            facts = facts[key]
        facts[name] = value

    return change


def drop(*place):
    def change(facts):
        for key in place[:-1]:
            facts = facts[key]
        del facts[place[-1]]

    return change


@pytest.mark.parametrize("name", ["added", "replaced", "spent", "by", "at", "prompts", "format"])
def test_a_commit_without_one_of_its_parts_is_refused(name):
    with pytest.raises(RefusedCommitError, match=f"^it is no commit: KeyError: '{name}'$"):
        read(changed(drop(name)))


AN_ENTRY, A_RECORD = ("it is no commit: TypeError: an entry", "it is no commit: TypeError: a record of what was spent")
CAN_NOT_BE = "it records calls or a cost that can't be"
WRONG = [
    *((put(name, value), "it is no commit: TypeError: expected a list") for name in PARTS for value in ({}, None, "x")),
    *((put(name, [5]), "it is no commit: TypeError: ") for name in PARTS),
    *((put(name, value), f"it is no commit: TypeError: {name} is no text") for name in TEXTS for value in (5, None)),
    *((put("added", 0, name, value), f"TypeError: {name} of a shard") for name in SIZES for value in (True, 5.0, "5")),
    *((put("added", 0, name, 5), f"it is no commit: TypeError: {name} of a shard") for name in ("path", "sha256")),
    (put("added", 0, "index", {"path": INDEX.path}), f"it names an index of {FEATURES.path}, which is no tar"),
    (drop("added", 1, "index"), "it is no commit: KeyError: 'index'"),
    (put("added", 1, "index", "rows", 4), f"the index {INDEX.path} is not that of {TAR.path}"),
    (put("added", 1, "index", "path", OTHER), f"the index {OTHER} is not that of {TAR.path}"),
    (put("added", 1, "index", "path", FEATURES.path), f"it names '{FEATURES.path}', which is no shard of a cache"),
    *((put(name, 0, "commit", "x"), AN_ENTRY) for name in ("replaced", "lost")),
    *((put(name, 0, "path", value), AN_ENTRY) for name in ("replaced", "lost") for value in (5, None)),
    (put("replaced", 0, "path", FAILURES.path), f"it replaces {FAILURES.path} by nothing"),
    *((put("spent", 0, "calls", value), A_RECORD) for value in (True, 1.0, "1", None)),
    *((put("spent", 0, "cost_usd", value), A_RECORD) for value in (True, "1", None)),
    *((put("spent", 0, "ledger", value), A_RECORD) for value in (5, None)),
    (put("spent", 0, "teacher", "x"), A_RECORD),
    *((put("spent", 0, "calls", value), CAN_NOT_BE) for value in (-1, 1 << 62)),
    *((put("spent", 0, "cost_usd", value), CAN_NOT_BE) for value in (-0.5, 1e30, 1 << 62)),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_part_of_another_type_or_value_is_refused(change, message):
    with pytest.raises(RefusedCommitError) as error:
        read(changed(change))
    found = str(error.value)
    assert found == message if not message.endswith(" ") and message.startswith("i") else message in found


def test_a_shard_that_is_added_twice_is_refused():
    with pytest.raises(RefusedCommitError, match=f"it adds {FEATURES.path} twice"):
        read(changed(lambda facts: facts["added"].append(facts["added"][0])))


def test_only_features_may_be_replaced_by_nothing():
    assert read(commit_bytes([], replaced=[Entry(A, FEATURES.path)], **WHO)).replaced == (Entry(A, FEATURES.path),)
    assert read(commit_bytes([TAR], replaced=[Entry(A, TAR.path)], **WHO)).replaced == (Entry(A, TAR.path),)
    for shard in (TAR, FAILURES, REWRITES):
        with pytest.raises(RefusedCommitError, match=f"it replaces {shard.path} by nothing"):
            read(commit_bytes([FEATURES], replaced=[Entry(A, shard.path)], **WHO))


def test_calls_without_a_cost_and_whole_dollars_are_kept_as_they_are():
    for cost in (0, 0.0, 5, (1 << 62) - 1):
        spent = Spent("l", A, 0, cost)
        assert read(commit_bytes([], spent=[spent], **WHO)).spent == (spent,)


@pytest.mark.parametrize("data", [WHOLE + b"\n", b" " + WHOLE, json.dumps(json.loads(WHOLE)).encode()])
def test_a_commit_that_is_not_written_canonically_is_refused(data):
    with pytest.raises(RefusedCommitError, match=r"^it is no canonical JSON$"):
        read(data)


@pytest.mark.parametrize(
    ("data", "kind"), [(b"", "JSONDecodeError"), (b"{", "JSONDecodeError"), (b"\xff", "UnicodeDecodeError")]
)
def test_bytes_that_are_no_json_are_refused(data, kind):
    with pytest.raises(RefusedCommitError, match=f"^it is no commit: {kind}: "):
        read(data)


def test_a_long_error_is_cut_after_two_hundred_letters():
    with pytest.raises(RefusedCommitError) as error:
        read(b'{"format":' + b"9" * 5000 + b"}")
    assert len(str(error.value)) <= 200
