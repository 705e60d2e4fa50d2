"""A seeded slice of what ``make soak`` runs over every decoder: an input is refused or read, and never worse."""

from __future__ import annotations

from tests.soak import decoders


def test_no_input_does_more_than_be_refused() -> None:
    assert decoders.fuzz(1500, 20261122) == []


def test_every_signed_thing_of_consent_is_among_them() -> None:
    for name in ("grant", "ticket", "revocation", "subject key", "deletion", "request"):
        assert {f"{name}, signed", f"{name}, by its signer"} <= decoders.TARGETS.keys()
    assert {"code", "code's text"} <= decoders.TARGETS.keys()
