from zhifu.v1 import exchange_pb2 as _exchange_pb2
from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchKeysRequest(_message.Message):
    __slots__ = ("head_size", "head_root", "key_statement")
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    head_size: int
    head_root: bytes
    key_statement: _signed_pb2.Envelope
    def __init__(self, head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class FetchKeysResponse(_message.Message):
    __slots__ = ("key_statement", "proof", "time_ms")
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    key_statement: _signed_pb2.Envelope
    proof: _exchange_pb2.LogProof
    time_ms: int
    def __init__(self, key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., time_ms: _Optional[int] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("recipient", "epoch", "blinded", "key_statement")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BLINDED_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    recipient: bytes
    epoch: int
    blinded: _containers.RepeatedScalarFieldContainer[bytes]
    key_statement: _signed_pb2.Envelope
    def __init__(self, recipient: _Optional[bytes] = ..., epoch: _Optional[int] = ..., blinded: _Optional[_Iterable[bytes]] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("evaluated", "proof")
    EVALUATED_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    evaluated: _containers.RepeatedScalarFieldContainer[bytes]
    proof: bytes
    def __init__(self, evaluated: _Optional[_Iterable[bytes]] = ..., proof: _Optional[bytes] = ...) -> None: ...

class RaiseQuotaRequest(_message.Message):
    __slots__ = ("quota", "key_statement")
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    quota: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    key_statement: _signed_pb2.Envelope
    def __init__(self, quota: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class RaiseQuotaResponse(_message.Message):
    __slots__ = ("allowed", "used")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    allowed: int
    used: int
    def __init__(self, allowed: _Optional[int] = ..., used: _Optional[int] = ...) -> None: ...
