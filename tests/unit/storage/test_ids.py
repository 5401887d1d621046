"""Identifiers of new rows sort by time and are unique."""

from __future__ import annotations

import threading
import time
import uuid

from pointsman.storage.ids import uuid7


def test_a_uuid7_has_its_version_its_variant_and_the_time():
    before = time.time_ns() // 1_000_000
    new = uuid7()
    after = time.time_ns() // 1_000_000
    assert (new.version, new.variant) == (7, uuid.RFC_4122)
    assert before <= new.int >> 80 <= after


def test_uuid7s_are_all_different_and_sort_by_time(monkeypatch):
    assert len({uuid7() for _ in range(5000)}) == 5000
    times = iter(range(1_700_000_000_000_000_000, 1_700_000_001_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    ids = [uuid7() for _ in range(1000)]
    assert ids == sorted(ids)
    assert [str(new_id) for new_id in ids] == sorted(str(new_id) for new_id in ids)


def test_uuid7s_of_many_threads_are_all_different():
    ids = []
    threads = [threading.Thread(target=lambda: ids.extend(uuid7() for _ in range(5000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 20_000
