"""Signals reach their subscribers, whatever the other subscribers do."""

from __future__ import annotations

from pointsman.bus.signals import BatchAccepted, DriftDetected, Signals, WorkAvailable


def test_a_signal_reaches_those_who_subscribed_to_its_type() -> None:
    signals = Signals()
    received: list[object] = []
    signals.subscribe(DriftDetected, received.append)

    signals.emit(DriftDetected("tracker"))
    signals.emit(WorkAvailable())

    assert received == [DriftDetected("tracker")]


def test_a_subscriber_that_fails_hurts_neither_the_emitter_nor_other_subscribers() -> None:
    signals = Signals()
    received: list[BatchAccepted] = []

    def failing(signal: BatchAccepted) -> None:
        raise RuntimeError(f"can't count {signal.report_count}")

    signals.subscribe(BatchAccepted, failing)
    signals.subscribe(BatchAccepted, received.append)

    signals.emit(BatchAccepted(3))

    assert received == [BatchAccepted(3)]
