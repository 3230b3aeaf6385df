"""The warnings of a co-learning that has stopped to learn from the unlabeled scans, which nothing else would tell."""

from __future__ import annotations

import pytest

from LASegColearnLib.events import EventLog
from LASegColearnLib.health import HealthWatch


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("disagreement", "The two students give identical predictions"),
        ("pseudo_label_volume", "The teacher predicts nothing"),
    ],
)
def test_what_stays_at_nothing_for_fifty_iterations_is_warned_of_once(part: str, message: str) -> None:
    told: list[dict] = []
    watch = HealthWatch(EventLog(None, told.append))
    for _ in range(49):
        watch.watch({part: 0.0, "total": 1.0})
    assert told == []
    for _ in range(100):
        watch.watch({part: 0.0, "total": 1.0})
    (event,) = told
    assert event["event"] == "warning" and event["message"].startswith(message)


def test_what_is_small_or_not_reported_is_not_warned_of() -> None:
    told: list[dict] = []
    watch = HealthWatch(EventLog(None, told.append))
    for _ in range(200):
        watch.watch({"disagreement": 1e-3, "total": 1.0})
    assert told == []
