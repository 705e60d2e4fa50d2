from zhifu.v1 import exchange_pb2 as _exchange_pb2
from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchCodeRequest(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: str
    def __init__(self, code: _Optional[str] = ...) -> None: ...

class FetchCodeResponse(_message.Message):
    __slots__ = ("sealed", "clock_ms")
    SEALED_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    sealed: bytes
    clock_ms: int
    def __init__(self, sealed: _Optional[bytes] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class FetchGrantRequest(_message.Message):
    __slots__ = ("grant_hash",)
    GRANT_HASH_FIELD_NUMBER: _ClassVar[int]
    grant_hash: bytes
    def __init__(self, grant_hash: _Optional[bytes] = ...) -> None: ...

class FetchGrantResponse(_message.Message):
    __slots__ = ("grant", "attestations", "clock_ms")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    grant: _signed_pb2.Envelope
    attestations: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    clock_ms: int
    def __init__(self, grant: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., attestations: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class RedeemTicketRequest(_message.Message):
    __slots__ = ("ticket", "workflow")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    ticket: _signed_pb2.Envelope
    workflow: bytes
    def __init__(self, ticket: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., workflow: _Optional[bytes] = ...) -> None: ...

class RedeemTicketResponse(_message.Message):
    __slots__ = ("until_ms", "proof", "entry")
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    until_ms: int
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    def __init__(self, until_ms: _Optional[int] = ..., proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ...) -> None: ...
