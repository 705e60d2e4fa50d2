"""Whose key is it: the key statements of pinned participants, as this node itself verified them (DESIGN 4.4).

The broker only carries statements. One of an unpinned participant is ignored, one that does not verify against the pin
or goes back is refused, and one in our own name that we did not sign ends the stream.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from clients.config import Pin
from clients.keystore import Keystore, participant_of, state_keys
from clients.store import Store
from zhifu import envelope
from zhifu.envelope import KEY_STATEMENT, Envelope
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.statement import SKEW_S, KeyStatement, verify_key_statement, verify_stated
from zhifu.v1 import exchange_pb2

REISSUE_S: Final = 86_400
_log = logging.getLogger("zhifu.directory")


class Directory:
    """Verified statements by participant id. What was believed once is remembered across restarts."""

    def __init__(self, pins: Mapping[bytes, Pin], keystore: Keystore, store: Store) -> None:
        self._pins = pins
        self._keystore = keystore
        self._store = store
        self.participant = participant_of(keystore)
        self._known: dict[bytes, list[KeyStatement]] = {}
        for participant in (*pins, self.participant):
            self._remember(participant)

    def _remember(self, participant: bytes) -> None:
        """Statements from the store, verified again as of their own time: the file could have been touched."""
        found = [envelope.from_bytes(KEY_STATEMENT, one) for _, one in self._store.trust.statements(participant)]
        self._known[participant] = [verify_stated(one, participant) for one in found]

    # Others

    def update(self, entries: Iterable[exchange_pb2.DirectoryEntry], now: int) -> list[Error]:
        """Take what the broker shows; why statements of pinned participants were refused. ``now`` is Unix s.

        Durable when it returns. Raises `NotAuthentic` (key.foreign): one in our own name that is not ours.
        """
        refused: list[Error] = []
        for entry in entries:
            if entry.participant == self.participant:
                self._check_own(entry)
            elif entry.participant in self._pins:
                try:
                    self._take(entry, now)
                except (Malformed, NotAuthentic) as error:
                    self._report(entry.participant, error)
                    refused.append(error)
        # One that is merely over is nobody's lie: its owner was away.
        return [error for error in refused if error.reason != "key.expired"]

    def _take(self, entry: exchange_pb2.DirectoryEntry, now: int) -> None:
        signed = envelope.from_proto(KEY_STATEMENT, entry.key_statement)
        found = verify_key_statement(signed, entry.participant, now)
        known = self._known[entry.participant]
        if known and found == known[-1]:
            return
        if known and found.serial <= known[-1].serial:
            raise NotAuthentic("key.rollback", f"serial {found.serial} after {known[-1].serial}")
        with self._store.transaction():
            self._store.trust.put_statement(entry.participant, found.serial, signed.to_bytes())
        known.append(found)

    @staticmethod
    def _report(participant: bytes, error: Error) -> None:
        level = logging.INFO if error.reason == "key.expired" else logging.ERROR
        _log.log(level, "statement.refused", extra={"about": {"participant": participant, "reason": error.reason}})

    def _check_own(self, entry: exchange_pb2.DirectoryEntry) -> None:
        shown = entry.key_statement.SerializeToString(deterministic=True)
        ours = [signed for _, signed in self._store.trust.statements(self.participant)]
        if not any(hmac.compare_digest(shown, one) for one in ours):
            self._recall(envelope.from_proto(KEY_STATEMENT, entry.key_statement))

    def _recall(self, signed: Envelope) -> None:
        """Take up what we stated after the backup from which our store was restored: the serials go on behind it.

        It is by our identity key and lists our keys and no other: whoever stole that key gains nothing by one.
        Raises `NotAuthentic` (key.foreign).
        """
        known = self._known[self.participant]
        try:
            found = verify_stated(signed, self.participant)
        except (Malformed, NotAuthentic) as error:
            raise NotAuthentic("key.foreign") from error
        if not self._lists_our_keys(found) or (known and found.serial <= known[-1].serial):
            raise NotAuthentic("key.foreign")
        with self._store.transaction():
            self._store.trust.put_statement(self.participant, found.serial, signed.to_bytes())
        known.append(found)
        _log.warning("statement.recalled", extra={"about": {"serial": found.serial}})

    def statements(self, now: int) -> dict[bytes, KeyStatement]:
        """The newest statement of every pinned participant, and our own, that is not over at ``now`` (Unix s)."""
        newest = ((participant, known[-1]) for participant, known in self._known.items() if known)
        return {participant: found for participant, found in newest if now <= found.not_after}

    def statement(self, participant: bytes, now: int) -> KeyStatement:
        """A participant's keys, to send to it. Raises `NotAuthentic` (key.not_pinned), `Refused` (unavailable.*)."""
        if participant not in self._pins:
            raise NotAuthentic("key.not_pinned")
        known = self._known[participant]
        if not known or now > known[-1].not_after:
            raise Refused("unavailable.recipient")
        return known[-1]

    def earlier(self, now: int) -> list[KeyStatement]:
        """Statements of pinned participants that are not over at ``now`` (Unix s) although newer ones are known: what
        was signed a moment before is still on its way.
        """
        return [one for known in self._known.values() for one in known[:-1] if now <= one.not_after]

    def signing_keys(self, participant: bytes) -> list[bytes]:
        """Every key a participant was known to sign with, newest first: what it signed before stays signed."""
        return list(dict.fromkeys(one.signing_key for one in reversed(self._known.get(participant, []))))

    @property
    def pinned(self) -> list[bytes]:
        """Ids of all participants that our own operator knows."""
        return list(self._pins)

    def pin(self, participant: bytes) -> Pin | None:
        """Who our own operator says a participant is; None for a stranger."""
        return self._pins.get(participant)

    # Ourselves

    def own(self, now: int) -> Envelope:
        """Our current statement; a new one, with the next serial, where less than a day is left, our keys changed, or
        the clock ran ahead when it was made and was put right since: nobody would take it yet.

        Durable before it can be sent, so that no serial is used twice. ``now`` is Unix s.
        """
        if not self._stands(now):
            # A command beside this node may have stated them already.
            self._remember(self.participant)
        known = self._known[self.participant]
        if self._stands(now):
            return envelope.from_bytes(KEY_STATEMENT, self._store.trust.statements(self.participant)[-1][1])
        serial = known[-1].serial + 1 if known else 1
        signed = state_keys(self._keystore, serial, now)
        with self._store.transaction():
            self._store.trust.put_statement(self.participant, serial, signed.to_bytes())
        known.append(verify_key_statement(signed, self.participant, now))
        return signed

    def _stands(self, now: int) -> bool:
        """Whether the newest statement of ours can be shown."""
        known = self._known[self.participant]
        in_time = bool(known) and known[-1].issued_at - SKEW_S <= now <= known[-1].not_after - REISSUE_S
        return in_time and self._lists_our_keys(known[-1])

    def _lists_our_keys(self, found: KeyStatement) -> bool:
        ours = (bytes(self._keystore.signing.verify_key), bytes(self._keystore.cosigning.verify_key))
        return (
            ours == (found.signing_key, found.cosigning_key)
            and found.kem_keys == self._keystore.stated_kems
            and found.tls_spki == self._keystore.tls_keys
            and not found.pseudonym_keys
        )
