"""PostgreSQL finds by an index what a broker asks of a table that grows, as SQLite is seen to in every rig."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests import plans, test_delivery, test_pipeline, test_redemption, test_subject_keys
from tests.postgres import Server

_PLAYED = (
    test_delivery.test_an_acknowledgement_settles_a_delivery,
    test_delivery.test_what_outlives_its_presentation_is_ended_and_told,
    test_delivery.test_a_revocation_withdraws_what_waits_and_counts_what_did_not,
    test_redemption.test_a_redeemed_ticket_pays_in_its_workflow_for_15_minutes,
    test_redemption.test_an_online_code_is_its_hospitals_for_a_minute,
    test_subject_keys.test_all_grants_of_a_subject_at_once,
    test_subject_keys.test_recipients_are_told_and_their_word_is_logged,
    test_subject_keys.test_a_stolen_recovery_code_gains_nothing_for_a_day_and_can_be_struck,
    test_pipeline.test_a_retry_is_known_after_a_restart,
    test_pipeline.test_a_statement_goes_to_the_patient_of_the_grant,
)


async def test_no_statement_of_a_broker_looks_through_a_large_table(server: Server, tmp_path: Path) -> None:
    plans.anew("broker")
    for number, play in enumerate(_PLAYED):
        (tmp_path / str(number)).mkdir()
        await play(tmp_path / str(number))
    assert plans.check_postgres(server.migrated()) > 50


def test_a_walk_is_seen(server: Server) -> None:
    with psycopg.connect(server.migrated(), autocommit=True) as database:
        database.execute("SET enable_seqscan = off")
        assert plans._walked(database, "SELECT hash FROM exchange WHERE hash || '' = ?") == ["exchange"]
        first = "SELECT hash FROM exchange WHERE released = ? ORDER BY hash LIMIT 1"
        assert plans._walked(database, first) == ["exchange"], "by an index of which it skips nothing"
        assert not plans._walked(database, "SELECT hash FROM exchange WHERE hash = ?")
