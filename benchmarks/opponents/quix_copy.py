"""Quix Streams 3 copying a topic exactly once, JSON in and out, with an `apply` that does nothing; until SIGTERM.

Runs in a virtual environment of its own (.venv-quix, made by `make bench`): it pins another confluent-kafka than ours.

    python quix_copy.py BROKER IN OUT GROUP
"""

from __future__ import annotations

import sys
import tempfile

from quixstreams import Application

if __name__ == "__main__":
    broker, source, sink, group = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=broker,
            consumer_group=group,
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_interval=0.1,
            state_dir=folder,
            use_changelog_topics=False,
            auto_create_topics=False,
            loglevel="WARNING",
        )
        frame = app.dataframe(app.topic(source, value_deserializer="json"))
        frame = frame.apply(lambda value: value)
        frame.to_topic(app.topic(sink, value_serializer="json"))
        app.run()
