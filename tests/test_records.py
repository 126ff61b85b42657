"""A prediction as it is written: every field that has a meaning, null where there is none yet, no others."""

import msgspec

from stream_rnn.records import Prediction, Record


def test_a_prediction_writes_what_is_not_there_yet_as_null_and_leaves_out_what_was_not_asked_for() -> None:
    first = Prediction(key="pump", time=None, source=None, step=1, forecast=2.5)
    assert msgspec.json.decode(msgspec.json.encode(first)) == {
        "key": "pump", "time": None, "source": None, "step": 1, "predicted": None, "actual": None, "error": None,
        "forecast": 2.5, "forecast_time": None,
    }  # fmt: skip
    asked = Prediction(key=("a", 1), time=1.5, source="t/0/7", step=2, interval={"0.9": [1.0, 2.0]}, anomaly=0.2)
    written = msgspec.json.decode(msgspec.json.encode(asked))
    assert (written["key"], written["interval"], written["anomaly"]) == (["a", 1], {"0.9": [1.0, 2.0]}, 0.2)
    assert "p_value" not in written


def test_positions_compare_in_stream_order() -> None:
    records = [Record(b"", at=at, resume_at=at) for at in ((0, 900), (0, 1000), (1, 0))]
    assert [r.at for r in records] == sorted(r.at for r in records)
