from zhifu.v1 import exchange_pb2 as _exchange_pb2
from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EraseRequest(_message.Message):
    __slots__ = ("orders",)
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    def __init__(self, orders: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ...) -> None: ...

class EraseResponse(_message.Message):
    __slots__ = ("erased", "proof", "entry", "complete_at")
    ERASED_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_AT_FIELD_NUMBER: _ClassVar[int]
    erased: int
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    complete_at: int
    def __init__(self, erased: _Optional[int] = ..., proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ..., complete_at: _Optional[int] = ...) -> None: ...

class HoldRequest(_message.Message):
    __slots__ = ("orders",)
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    def __init__(self, orders: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ...) -> None: ...

class HoldResponse(_message.Message):
    __slots__ = ("proof", "entry")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ...) -> None: ...
