"""How long one end of a stream listened: what it is late by its own work does not count."""

from __future__ import annotations

from collections.abc import Iterator

from clients.listening import Listening


class Time:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_the_reader_s_waiting_counts() -> None:
    time = Time()
    listening = Listening(time)
    time.now = 5.0
    assert listening.seconds == 0
    with listening.reading():
        time.now += 3.0
        assert listening.seconds == 3.0
    time.now += 7.0
    assert listening.seconds == 3.0
    with listening.reading():
        time.now += 1.0
    assert listening.seconds == 4.0


def test_what_the_writer_does_meanwhile_does_not_count() -> None:
    time = Time()
    listening = Listening(time)

    def steps() -> Iterator[int]:
        for number in (1, 2):
            time.now += 10.0
            yield number
        time.now += 10.0

    with listening.reading():
        for _ in listening.each(steps()):
            time.now += 2.0
        assert listening.seconds == 4.0
        with listening.working():
            time.now += 5.0
        time.now += 1.0
    assert listening.seconds == 5.0


def test_work_before_the_reader_waited_is_not_taken_off() -> None:
    time = Time()
    listening = Listening(time)
    with listening.working():
        time.now += 100.0
    with listening.reading():
        time.now += 3.0
    assert listening.seconds == 3.0
