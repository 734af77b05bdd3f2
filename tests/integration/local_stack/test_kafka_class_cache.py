import os
from pathlib import Path

from local_stack.embedded_kafka import class_cache_file, temporary_kafka
from local_stack.kafka_jars import read_lock


def test_a_damaged_class_cache_does_not_keep_the_broker_from_starting(
    tmp_path: Path, kafka_jars: Path, short_folder: Path
) -> None:
    for jar in read_lock().jars:
        (tmp_path / jar.filename).symlink_to(kafka_jars / jar.filename)
    class_cache_file(tmp_path).write_bytes(os.urandom(100_000))
    with temporary_kafka(short_folder, tmp_path, os.environ) as place:
        assert place.port
    assert "AOT" not in (short_folder / "kafka.log").read_text()
