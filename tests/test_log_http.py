"""The log over HTTP as tiles, and what nodes and auditors do with it: reconcile receipts, verify proofs offline."""

from __future__ import annotations

import asyncio
import gzip
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from broker import tiles
from broker.services.frames import Known
from broker.services.http import bind, serving
from broker.services.log import app
from broker.store import tables
from clients import reconcile, wire
from clients.auditor import pins, proofs
from clients.auditor.pins import Pins
from clients.config import Pin
from clients.inbox import receipt_of
from clients.keystore import FileKeystore
from clients.store import Evidence, Receipt, Store
from clients.tiles import Mirror
from tests.broker_rig import Rig, present, rig
from tests.formats import HOSPITAL, NOW, PAYER
from tests.house import ask, run
from zhifu import checkpoint, merkle, witness
from zhifu.checkpoint import Checkpoint
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.receipt import Head
from zhifu.v1 import exchange_pb2 as pb

ENTRIES = 300
"""More than one tile."""
ASKED = b"GET /tile/entries/000 HTTP/1.1\r\nHost: log\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig(tmp_path_factory.mktemp("log"), HOSPITAL, PAYER) as found:
        while found.core.log.size < ENTRIES:
            await found.submit(*[present(found.statute()) for _ in range(32)])
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_tiles_are_the_trees_nodes_and_bundles_its_leaves(broker: Rig) -> None:
    reader, size = broker.core.store.reader, broker.core.log.size
    hashes = reader.nodes([(0, index) for index in range(size)])
    full, is_full = tiles.read("0/000", reader)
    partial, is_partial = tiles.read(f"0/001.p/{size - 256}", reader)
    assert (full + partial, is_full, is_partial) == (b"".join(hashes), True, False)
    assert tiles.read("1/000.p/1", reader) == (reader.nodes([(8, 0)])[0], False)
    bundle, _ = tiles.read("entries/000", reader)
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(merkle.leaf_hash(bundle[2 : 2 + length]))
        bundle = bundle[2 + length :]
    assert found == hashes[:256]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0/0",
        "0/x000/000",
        "0/" + 2000 * "x001/" + "000",
        "64/000",
        "0/000.p/256",
        "0/000.p/0",
        "0/000.p/01",
        "entry/000",
        "0/000/",
        "00/000",
    ],
)
async def test_what_is_no_tile_is_refused(broker: Rig, path: str) -> None:
    with pytest.raises(Malformed):
        tiles.read(path, broker.core.store.reader)


@pytest.mark.parametrize("path", ["0/001", "0/x001/000", "1/000", "2/000.p/1", "entries/001"])
async def test_what_the_log_does_not_have_yet_is_not_there(broker: Rig, path: str) -> None:
    with pytest.raises(Refused, match=r"exchange\.unknown"):
        tiles.read(path, broker.core.store.reader)


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


async def test_a_mirror_proves_every_size_and_place_over_http(broker: Rig) -> None:
    log = broker.core.log
    broker.core.witnesses.show()
    async with serving(app(broker.core), bind(0)) as port:

        def look() -> None:
            mirror = Mirror(f"http://127.0.0.1:{port}", log.vkey)
            size, root = mirror.checkpoint.size, mirror.checkpoint.root
            hashes = log.reader.nodes([(0, index) for index in range(size)])
            for old in (0, 1, 7, 255, 256, 257, size):
                mirror.check_extends(Head(old, merkle.root(hashes[:old])))
            for index in (0, 1, 255, 256, size - 1):
                mirror.inclusion(hashes[index], index, size, root)
            with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
                mirror.inclusion(hashes[3], 4, size, root)
            for head in (Head(size + 1, root), Head(9, root), Head(size, hashes[0])):
                with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
                    mirror.check_extends(head)
            with pytest.raises(NotAuthentic, match=r"log\.signature"):
                Mirror(f"http://127.0.0.1:{port}", replace(log.vkey, public_key=bytes(HOSPITAL.identity.verify_key)))
            assert ask("GET", f"http://127.0.0.1:{port}/tile/0/000").headers["cache-control"].endswith("immutable")
            assert ask("GET", f"http://127.0.0.1:{port}/tile/0/x").status_code == 400
            assert ask("GET", f"http://127.0.0.1:{port}/tile/0/999").status_code == 404
            mirror.close()

        await in_thread(look)


async def kept(broker: Rig, folder: Path) -> tuple[Store, Receipt]:
    """The hospital's store with the receipt of one exchange, as its node would have kept it."""
    (folder / "node").mkdir()
    store = Store(folder / "node" / "node.db", FileKeystore.draw(folder / "node" / "keys"))
    (result,) = await broker.submit(present(broker.statute()))
    proven, log = broker.proven, broker.core.log
    assert proven is not None
    commit = log.commit_at(proven.checkpoint.size)
    proof = Known(Head()).prove(log, commit, result.entry.index, result.entry.index + 1)
    entry = wire.proven_entry(result.entry, wire.prove(proof, Head(), log.vkey))
    found = receipt_of(result.presentation_hash, entry, wire.prove(proof, Head(), log.vkey), proof)
    with store.transaction():
        store.receipts.put(found)
        store.trust.move_head(Head(commit.size, commit.root), commit.note)
    broker.core.witnesses.show()
    return store, found


async def test_receipts_are_reconciled_and_an_omission_is_found(broker: Rig, tmp_path: Path) -> None:
    store, receipt = await kept(broker, tmp_path)
    key = broker.core.log.vkey
    good = reconcile.reconcile(store, key, Unplugged(broker))
    assert (good.receipts, good.pending, good.omissions) == (1, 1, ())
    # A receipt whose entry the log does not show: one that was promised and then left out.
    opening = pb.EntryOpening.FromString(receipt.opening)
    opening.meta_key = bytes(32)
    with store.transaction():
        store.receipts.put(replace(receipt, exchange=b"x" * 32, opening=opening.SerializeToString()))
    (omitted,) = reconcile.reconcile(store, key, Unplugged(broker)).omissions
    assert (omitted.exchange, omitted.reason) == ((b"x" * 32).hex(), "log.omitted")
    # The log is shorter than what was seen.
    with store.transaction():
        store.trust.move_head(Head(10_000, bytes(32)), b"")
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        reconcile.reconcile(store, key, Unplugged(broker))
    store.close()


class Unplugged(Mirror):
    """The broker's log without a socket between."""

    def __init__(self, broker: Rig) -> None:
        self._tiles = {}
        self._reader = broker.core.store.reader
        self.note = broker.core.witnesses.shown.note
        self.checkpoint = checkpoint.verify(self.note, broker.core.log.vkey)

    def _get(self, path: str, cap: int) -> bytes:
        return tiles.read(path.removeprefix("/tile/"), self._reader)[0]

    def close(self) -> None:
        pass


async def test_a_portable_receipt_verifies_offline_and_no_byte_of_it_can_change(broker: Rig, tmp_path: Path) -> None:
    store, receipt = await kept(broker, tmp_path)
    key, auditor = broker.core.log.vkey, tmp_path / "auditor"
    pins.write(auditor, Pins(key.name, key, {HOSPITAL.id: Pin("hospital", "h")}))
    mirror = Unplugged(broker)
    at = mirror.checkpoint
    line = checkpoint.cosign(at, witness.name_of(PAYER.id), PAYER.cosigning, NOW)
    cosigned = checkpoint.with_cosignatures(mirror.note, [line])
    plain = reconcile.portable(receipt, key, None, None)
    final = reconcile.portable(receipt, key, cosigned, mirror)
    assert plain.index == final.index
    wkey = witness.key_of(PAYER.statement())
    policy = tmp_path / "policy"
    policy.write_text(f"witness payer {wkey.encode()}\nquorum payer\n")
    for name, proof in (("plain", plain), ("final", final)):
        (tmp_path / name).write_bytes(proof.encode())
        found = run("audit", "verify-receipt", tmp_path / name, "--pins", auditor, "--json").ok().json
        assert (found["event"], found["sender"]) == ("exchange.accepted", HOSPITAL.id.hex())
    strict = run("audit", "verify-receipt", tmp_path / "final", "--pins", auditor, "--policy", policy, "--json").ok()
    assert strict.json["checkpoint"]["cosigned"] == [wkey.name]
    assert run("audit", "verify-receipt", tmp_path / "plain", "--pins", auditor, "--policy", policy).code == 6
    for at_byte in range(0, len(plain.encode()), 7):
        content = bytearray(plain.encode())
        content[at_byte] ^= 1
        (tmp_path / "bad").write_bytes(bytes(content))
        ended = run("audit", "verify-receipt", tmp_path / "bad", "--pins", auditor)
        assert ended.code in (2, 5), (at_byte, ended.err)
        assert "Traceback" not in ended.err
    store.close()


async def test_checkpoints_verify_and_two_of_them_are_consistent(broker: Rig, tmp_path: Path) -> None:
    log, auditor = broker.core.log, tmp_path / "auditor"
    pins.write(auditor, Pins(log.origin, log.vkey, {}))
    await broker.submit(present(broker.statute()))
    sizes = [row.size for row in broker.rows(tables.Checkpoint)]
    old, new = log.commit_at(sizes[5]), log.commit_at(sizes[-1])
    (tmp_path / "old").write_bytes(old.note)
    (tmp_path / "new").write_bytes(new.note)
    proof = merkle.consistency_proof(old.size, new.size, log.fetch)
    (tmp_path / "proof").write_bytes(b"\n".join(map(b64encode, proof)))
    said = ("--pins", auditor, "--proof", tmp_path / "proof")
    assert (
        run("audit", "verify-consistency", tmp_path / "old", tmp_path / "new", *said, "--json").ok().json["consistent"]
    )
    assert run("audit", "verify-consistency", tmp_path / "new", tmp_path / "old", *said).code == 5
    assert run("audit", "verify-checkpoint", tmp_path / "new", "--pins", auditor).ok()
    forged = checkpoint.sign(Checkpoint(log.origin, new.size, bytes(32)), log.origin, HOSPITAL.identity)
    (tmp_path / "forged").write_bytes(forged)
    assert run("audit", "verify-checkpoint", tmp_path / "forged", "--pins", auditor).code == 5
    pins.move_head(auditor, merkle.Frontier().extend(log.reader.nodes([(0, i) for i in range(new.size)])))
    assert run("audit", "verify-checkpoint", tmp_path / "new", "--pins", auditor).ok()
    fork = checkpoint.sign(Checkpoint(log.origin, new.size, bytes(32)), log.origin, broker.home.log_key)
    (tmp_path / "fork").write_bytes(fork)
    ended = run("audit", "verify-checkpoint", tmp_path / "fork", "--pins", auditor)
    assert (ended.code, "log.inconsistent" in ended.err) == (5, True)


async def test_evidence_says_whether_the_logs_own_key_convicts_it(broker: Rig) -> None:
    log = broker.core.log
    signed = pb.ConnectResponse(checkpoint=pb.CheckpointFrame(checkpoint=log.commit_at(log.size).note))
    foreign = checkpoint.sign(Checkpoint(log.origin, 3, bytes(32)), log.origin, HOSPITAL.identity)
    unsigned = pb.ConnectResponse(checkpoint=pb.CheckpointFrame(checkpoint=foreign))
    # A node keeps the frame that it was sent, an auditor the note that it was answered with.
    note = log.commit_at(log.size).note
    of_nodes = ((signed.SerializeToString(), True), (unsigned.SerializeToString(), False), (b"x", False))
    for content, expected in (*of_nodes, (note, True), (foreign, False)):
        one = Evidence(1, 1, "log.inconsistent", Head(), content)
        assert proofs.convicts(one, log.vkey) is expected


PACKED = b"content-encoding: gzip\r\ncontent-length: 1048576\r\n\r\n" + gzip.compress(bytes(1 << 24))
ENDLESS = b"transfer-encoding: chunked\r\n\r\n" + 100 * (b"1000\r\n" + bytes(4096) + b"\r\n")


@pytest.mark.parametrize("answer", [PACKED, ENDLESS, b"content-length: 99999999999\r\n\r\n" + bytes(1 << 20)])
async def test_a_log_that_answers_without_end_is_not_read_to_it(broker: Rig, answer: bytes) -> None:
    sent = asyncio.Event()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
        sent.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Refused, match=r"unavailable\.broker.*(packed|no end)"):
            await in_thread(lambda: Mirror(url, broker.core.log.vkey))
        assert sent.is_set()


async def test_an_address_that_is_none_is_told(broker: Rig) -> None:
    for url, reason in (("http://[::1", "usage.argument"), ("nowhere", "unavailable.broker")):
        with pytest.raises(Error, match=reason):
            Mirror(url, broker.core.log.vkey)


@asynccontextmanager
async def callers(broker: Rig, count: int, saying: bytes) -> AsyncIterator[int]:
    """Who connects to the log over HTTP, says this much, and takes one byte of an answer and no more; the port."""
    loop, found, bound = asyncio.get_running_loop(), [], bind(0)
    # What nobody takes fills it soon.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with serving(app(broker.core), bound) as port:
        for _ in range(count):
            caller = socket.socket()
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            found.append(caller)
            await loop.sock_connect(caller, ("127.0.0.1", port))
            await loop.sock_sendall(caller, saying)
            if saying.endswith(b"\r\n\r\n"):
                await loop.sock_recv(caller, 1)
        yield port
    for caller in found:
        caller.close()


@pytest.mark.parametrize("saying", [b"", b"GET /checkpoint HTTP/1.1\r\nHost: log\r\n", ASKED * 40])
async def test_nobody_keeps_the_places_of_the_log(broker: Rig, monkeypatch: pytest.MonkeyPatch, saying: bytes) -> None:
    monkeypatch.setattr("broker.services.http.STILL_S", 0.5)
    monkeypatch.setattr("broker.services.http.MAX_CALLERS", 3)
    async with callers(broker, 3, saying) as port, httpx.AsyncClient(trust_env=False) as client:
        async with asyncio.timeout(60):
            while (await client.get(f"http://127.0.0.1:{port}/checkpoint")).status_code != 200:
                await asyncio.sleep(0.1)


async def test_who_takes_no_answer_does_not_keep_the_broker_from_stopping(broker: Rig) -> None:
    async with asyncio.timeout(60), callers(broker, 1, ASKED * 40):
        pass
