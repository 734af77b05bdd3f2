from vault_pipelines.streams.stalling import StallWatch


def test_a_partition_with_messages_waiting_and_no_progress_is_stalled_after_the_limit():
    watch = StallWatch(300)
    assert watch.stalled({"a": 5}, {"a": 9}, 0) == []
    assert watch.stalled({"a": 5}, {"a": 9}, 300) == []
    assert watch.stalled({"a": 5}, {"a": 10}, 301) == ["a"]


def test_progress_however_small_starts_the_wait_anew():
    watch = StallWatch(300)
    watch.stalled({"a": 5}, {"a": 9}, 0)
    assert watch.stalled({"a": 6}, {"a": 9}, 299) == []
    assert watch.stalled({"a": 6}, {"a": 9}, 599) == []
    assert watch.stalled({"a": 6}, {"a": 9}, 600) == ["a"]


def test_a_partition_without_messages_waiting_never_stalls_and_its_wait_begins_with_the_first_one():
    watch = StallWatch(300)
    watch.stalled({"a": 9}, {"a": 9}, 0)
    assert watch.stalled({"a": 9}, {"a": 9}, 10_000) == []
    assert watch.stalled({"a": 9}, {"a": 10}, 10_200) == []
    assert watch.stalled({"a": 9}, {"a": 10}, 10_400) == ["a"]


def test_a_partition_that_went_to_another_worker_is_forgotten():
    watch = StallWatch(300)
    watch.stalled({"a": 5}, {"a": 9}, 0)
    watch.stalled({}, {}, 100)
    assert watch.stalled({"a": 5}, {"a": 9}, 400) == []


def test_an_end_that_is_not_known_is_no_reason():
    watch = StallWatch(300)
    watch.stalled({"a": 5}, {}, 0)
    assert watch.stalled({"a": 5}, {}, 1000) == []
