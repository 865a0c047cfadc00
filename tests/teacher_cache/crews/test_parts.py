"""Parts: rows go out so that no worker waits and none holds the end, and tars go out whole."""

import pyarrow as pa

from teacher_cache.crews.parts import Parts, part_size, tar_parts


def test_parts_become_smaller_towards_the_end_and_leave_nothing_out():
    parts, sizes = Parts(iter(range(5000)), 5000), []
    rows = []
    while parts.left:
        size = part_size(parts.left, 4, waiting=0, rows_per_s=1000, concurrency=64)
        sizes.append(size)
        rows += parts.take(size)
    assert rows == list(range(5000))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 500
    assert sizes[-1] == 1


def test_a_worker_with_enough_to_do_gets_no_more():
    assert part_size(1000, 2, waiting=2, rows_per_s=1, concurrency=0) == 0
    assert part_size(1000, 2, waiting=1, rows_per_s=1, concurrency=0) == 3
    assert part_size(0, 2, waiting=0, rows_per_s=1, concurrency=0) == 0


def test_a_tar_is_in_one_part():
    paths = ["b", "a", "c", "b", "a", "d", "c"]
    column = pa.array(paths).dictionary_encode()
    places = pa.table({"image_key": [bytes([i]) for i in range(7)], "path": column})
    parts = [part["path"].to_pylist() for part in tar_parts(places, 3)]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert [set(part) for part in parts] == [{"b", "a"}, {"c", "d"}], "whole tars, of at least three rows together"
    assert list(tar_parts(places.slice(0, 0), 3)) == []
