from zhifu.v1 import exchange_pb2 as _exchange_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditQuery(_message.Message):
    __slots__ = ("since_ms", "until_ms", "events", "party", "actor", "counterparty", "purposes", "outcomes", "reasons", "policy", "unit", "about", "entries")
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    COUNTERPARTY_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    since_ms: int
    until_ms: int
    events: _containers.RepeatedScalarFieldContainer[str]
    party: bytes
    actor: bytes
    counterparty: bytes
    purposes: _containers.RepeatedScalarFieldContainer[str]
    outcomes: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    policy: bytes
    unit: str
    about: _containers.RepeatedScalarFieldContainer[bytes]
    entries: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., events: _Optional[_Iterable[str]] = ..., party: _Optional[bytes] = ..., actor: _Optional[bytes] = ..., counterparty: _Optional[bytes] = ..., purposes: _Optional[_Iterable[str]] = ..., outcomes: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., policy: _Optional[bytes] = ..., unit: _Optional[str] = ..., about: _Optional[_Iterable[bytes]] = ..., entries: _Optional[_Iterable[int]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("query", "before", "limit", "head_size", "head_root")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    query: AuditQuery
    before: int
    limit: int
    head_size: int
    head_root: bytes
    def __init__(self, query: _Optional[_Union[AuditQuery, _Mapping]] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ..., head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ...) -> None: ...

class FoundEntry(_message.Message):
    __slots__ = ("entry", "plain", "inclusion", "meta_commitment", "detail_commitment", "withheld", "erased_by")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    META_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    ERASED_BY_FIELD_NUMBER: _ClassVar[int]
    entry: _exchange_pb2.EntryOpening
    plain: bool
    inclusion: bytes
    meta_commitment: bytes
    detail_commitment: bytes
    withheld: bool
    erased_by: int
    def __init__(self, entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ..., plain: _Optional[bool] = ..., inclusion: _Optional[bytes] = ..., meta_commitment: _Optional[bytes] = ..., detail_commitment: _Optional[bytes] = ..., withheld: _Optional[bool] = ..., erased_by: _Optional[int] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("checkpoint", "known_size", "consistency", "entries", "next_before", "total", "total_known", "indexed_size")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOTAL_KNOWN_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SIZE_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    known_size: int
    consistency: bytes
    entries: _containers.RepeatedCompositeFieldContainer[FoundEntry]
    next_before: int
    total: int
    total_known: bool
    indexed_size: int
    def __init__(self, checkpoint: _Optional[bytes] = ..., known_size: _Optional[int] = ..., consistency: _Optional[bytes] = ..., entries: _Optional[_Iterable[_Union[FoundEntry, _Mapping]]] = ..., next_before: _Optional[int] = ..., total: _Optional[int] = ..., total_known: _Optional[bool] = ..., indexed_size: _Optional[int] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("query", "head_size", "head_root")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    query: AuditQuery
    head_size: int
    head_root: bytes
    def __init__(self, query: _Optional[_Union[AuditQuery, _Mapping]] = ..., head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: SearchResponse
    def __init__(self, page: _Optional[_Union[SearchResponse, _Mapping]] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("query",)
    QUERY_FIELD_NUMBER: _ClassVar[int]
    query: AuditQuery
    def __init__(self, query: _Optional[_Union[AuditQuery, _Mapping]] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("hours", "waiting", "indexed_size", "complete")
    HOURS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    hours: _containers.RepeatedCompositeFieldContainer[HourCount]
    waiting: _containers.RepeatedScalarFieldContainer[int]
    indexed_size: int
    complete: bool
    def __init__(self, hours: _Optional[_Iterable[_Union[HourCount, _Mapping]]] = ..., waiting: _Optional[_Iterable[int]] = ..., indexed_size: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class HourCount(_message.Message):
    __slots__ = ("hour", "actor", "event", "outcome", "purpose", "latency", "count")
    HOUR_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    hour: int
    actor: bytes
    event: str
    outcome: str
    purpose: str
    latency: int
    count: int
    def __init__(self, hour: _Optional[int] = ..., actor: _Optional[bytes] = ..., event: _Optional[str] = ..., outcome: _Optional[str] = ..., purpose: _Optional[str] = ..., latency: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("head_size", "head_root", "directory_after")
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_AFTER_FIELD_NUMBER: _ClassVar[int]
    head_size: int
    head_root: bytes
    directory_after: bytes
    def __init__(self, head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ..., directory_after: _Optional[bytes] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("checkpoint", "known_size", "consistency", "cosigned", "indexed_size", "clock_ms", "directory", "scope", "directory_next")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SIZE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_NEXT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    known_size: int
    consistency: bytes
    cosigned: _containers.RepeatedCompositeFieldContainer[CosignedCheckpoint]
    indexed_size: int
    clock_ms: int
    directory: _containers.RepeatedCompositeFieldContainer[_exchange_pb2.DirectoryEntry]
    scope: bytes
    directory_next: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., known_size: _Optional[int] = ..., consistency: _Optional[bytes] = ..., cosigned: _Optional[_Iterable[_Union[CosignedCheckpoint, _Mapping]]] = ..., indexed_size: _Optional[int] = ..., clock_ms: _Optional[int] = ..., directory: _Optional[_Iterable[_Union[_exchange_pb2.DirectoryEntry, _Mapping]]] = ..., scope: _Optional[bytes] = ..., directory_next: _Optional[bytes] = ...) -> None: ...

class CosignedCheckpoint(_message.Message):
    __slots__ = ("checkpoint", "consistency")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    consistency: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., consistency: _Optional[bytes] = ...) -> None: ...

class MirrorRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MirrorResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lines: _Optional[_Iterable[bytes]] = ...) -> None: ...
