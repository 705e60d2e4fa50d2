from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Submission(_message.Message):
    __slots__ = ("presentation", "manifest", "leaves", "capsule")
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    presentation: bytes
    manifest: bytes
    leaves: bytes
    capsule: bytes
    def __init__(self, presentation: _Optional[bytes] = ..., manifest: _Optional[bytes] = ..., leaves: _Optional[bytes] = ..., capsule: _Optional[bytes] = ...) -> None: ...

class SubmissionFrame(_message.Message):
    __slots__ = ("key_id", "signature", "submissions")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    signature: bytes
    submissions: _containers.RepeatedCompositeFieldContainer[Submission]
    def __init__(self, key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., submissions: _Optional[_Iterable[_Union[Submission, _Mapping]]] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "submissions", "acknowledgements", "key_statement", "epoch_offer", "notices_read", "cosignature", "deletion")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_OFFER_FIELD_NUMBER: _ClassVar[int]
    NOTICES_READ_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DELETION_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    submissions: SubmissionFrame
    acknowledgements: AcknowledgementFrame
    key_statement: _signed_pb2.Envelope
    epoch_offer: _signed_pb2.Envelope
    notices_read: NoticesRead
    cosignature: Cosignature
    deletion: _signed_pb2.Envelope
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., submissions: _Optional[_Union[SubmissionFrame, _Mapping]] = ..., acknowledgements: _Optional[_Union[AcknowledgementFrame, _Mapping]] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., epoch_offer: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., notices_read: _Optional[_Union[NoticesRead, _Mapping]] = ..., cosignature: _Optional[_Union[Cosignature, _Mapping]] = ..., deletion: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class Cosignature(_message.Message):
    __slots__ = ("size", "line")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    size: int
    line: bytes
    def __init__(self, size: _Optional[int] = ..., line: _Optional[bytes] = ...) -> None: ...

class NoticesRead(_message.Message):
    __slots__ = ("through",)
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    through: int
    def __init__(self, through: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "head_size", "head_root", "clock_ms", "notices_through", "checkpoint", "cosigns", "participants")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_THROUGH_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COSIGNS_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    head_size: int
    head_root: bytes
    clock_ms: int
    notices_through: int
    checkpoint: bytes
    cosigns: bool
    participants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, version: _Optional[int] = ..., head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ..., clock_ms: _Optional[int] = ..., notices_through: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., cosigns: _Optional[bool] = ..., participants: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AcknowledgementFrame(_message.Message):
    __slots__ = ("key_id", "signature", "acknowledgements")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    signature: bytes
    acknowledgements: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., acknowledgements: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "results", "deliveries", "notices", "directory", "reconnect", "checkpoint")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    results: ResultFrame
    deliveries: DeliveryFrame
    notices: NoticeFrame
    directory: Directory
    reconnect: Reconnect
    checkpoint: CheckpointFrame
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., results: _Optional[_Union[ResultFrame, _Mapping]] = ..., deliveries: _Optional[_Union[DeliveryFrame, _Mapping]] = ..., notices: _Optional[_Union[NoticeFrame, _Mapping]] = ..., directory: _Optional[_Union[Directory, _Mapping]] = ..., reconnect: _Optional[_Union[Reconnect, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointFrame, _Mapping]] = ...) -> None: ...

class CheckpointFrame(_message.Message):
    __slots__ = ("checkpoint", "known_size", "consistency")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    known_size: int
    consistency: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., known_size: _Optional[int] = ..., consistency: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "origin", "clock_ms", "node", "gate_key_statement", "max_frame")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    GATE_KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_FIELD_NUMBER: _ClassVar[int]
    version: int
    origin: str
    clock_ms: int
    node: bytes
    gate_key_statement: _signed_pb2.Envelope
    max_frame: int
    def __init__(self, version: _Optional[int] = ..., origin: _Optional[str] = ..., clock_ms: _Optional[int] = ..., node: _Optional[bytes] = ..., gate_key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., max_frame: _Optional[int] = ...) -> None: ...

class Directory(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[DirectoryEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[DirectoryEntry, _Mapping]]] = ...) -> None: ...

class DirectoryEntry(_message.Message):
    __slots__ = ("participant", "role", "name", "key_statement")
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    participant: bytes
    role: str
    name: str
    key_statement: _signed_pb2.Envelope
    def __init__(self, participant: _Optional[bytes] = ..., role: _Optional[str] = ..., name: _Optional[str] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class LogRange(_message.Message):
    __slots__ = ("begin", "left", "leaves", "right")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    begin: int
    left: bytes
    leaves: bytes
    right: bytes
    def __init__(self, begin: _Optional[int] = ..., left: _Optional[bytes] = ..., leaves: _Optional[bytes] = ..., right: _Optional[bytes] = ...) -> None: ...

class LogProof(_message.Message):
    __slots__ = ("checkpoint", "range", "known_size", "consistency")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    range: LogRange
    known_size: int
    consistency: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., range: _Optional[_Union[LogRange, _Mapping]] = ..., known_size: _Optional[int] = ..., consistency: _Optional[bytes] = ...) -> None: ...

class EntryOpening(_message.Message):
    __slots__ = ("index", "time_ms", "meta_key", "meta", "detail_key", "detail")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    META_KEY_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    DETAIL_KEY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    index: int
    time_ms: int
    meta_key: bytes
    meta: bytes
    detail_key: bytes
    detail: bytes
    def __init__(self, index: _Optional[int] = ..., time_ms: _Optional[int] = ..., meta_key: _Optional[bytes] = ..., meta: _Optional[bytes] = ..., detail_key: _Optional[bytes] = ..., detail: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "detail", "retryable", "retry_after_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    retryable: bool
    retry_after_ms: int
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ..., retryable: _Optional[bool] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("presentation_hash", "refusal", "entry", "released")
    PRESENTATION_HASH_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    presentation_hash: bytes
    refusal: Refusal
    entry: EntryOpening
    released: bytes
    def __init__(self, presentation_hash: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., entry: _Optional[_Union[EntryOpening, _Mapping]] = ..., released: _Optional[bytes] = ...) -> None: ...

class ResultFrame(_message.Message):
    __slots__ = ("proof", "results")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    proof: LogProof
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, proof: _Optional[_Union[LogProof, _Mapping]] = ..., results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("presentation", "manifest", "released", "leaves", "shares", "capsule", "grant", "entry", "attempt", "ticket")
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    presentation: _signed_pb2.Envelope
    manifest: bytes
    released: bytes
    leaves: bytes
    shares: bytes
    capsule: bytes
    grant: _signed_pb2.Envelope
    entry: EntryOpening
    attempt: int
    ticket: _signed_pb2.Envelope
    def __init__(self, presentation: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., manifest: _Optional[bytes] = ..., released: _Optional[bytes] = ..., leaves: _Optional[bytes] = ..., shares: _Optional[bytes] = ..., capsule: _Optional[bytes] = ..., grant: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., entry: _Optional[_Union[EntryOpening, _Mapping]] = ..., attempt: _Optional[int] = ..., ticket: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class DeliveryFrame(_message.Message):
    __slots__ = ("proof", "deliveries")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    proof: LogProof
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, proof: _Optional[_Union[LogProof, _Mapping]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("presentation_hash", "state", "acknowledgement", "entry", "id")
    PRESENTATION_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    presentation_hash: bytes
    state: str
    acknowledgement: _signed_pb2.Envelope
    entry: EntryOpening
    id: int
    def __init__(self, presentation_hash: _Optional[bytes] = ..., state: _Optional[str] = ..., acknowledgement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., entry: _Optional[_Union[EntryOpening, _Mapping]] = ..., id: _Optional[int] = ...) -> None: ...

class NoticeFrame(_message.Message):
    __slots__ = ("proof", "notices")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    proof: LogProof
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    def __init__(self, proof: _Optional[_Union[LogProof, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ...) -> None: ...

class Reconnect(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class SubmitExchangeRequest(_message.Message):
    __slots__ = ("submissions",)
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    submissions: SubmissionFrame
    def __init__(self, submissions: _Optional[_Union[SubmissionFrame, _Mapping]] = ...) -> None: ...

class SubmitExchangeResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ResultFrame]
    def __init__(self, results: _Optional[_Iterable[_Union[ResultFrame, _Mapping]]] = ...) -> None: ...
