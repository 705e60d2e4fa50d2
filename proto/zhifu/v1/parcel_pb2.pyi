from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchParcelRequest(_message.Message):
    __slots__ = ("parcel",)
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    parcel: bytes
    def __init__(self, parcel: _Optional[bytes] = ...) -> None: ...

class FetchParcelResponse(_message.Message):
    __slots__ = ("parcel", "subject_key", "attestations")
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    parcel: _signed_pb2.Envelope
    subject_key: bytes
    attestations: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    def __init__(self, parcel: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., subject_key: _Optional[bytes] = ..., attestations: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ...) -> None: ...

class FetchChunkRequest(_message.Message):
    __slots__ = ("parcel", "place")
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    parcel: bytes
    place: int
    def __init__(self, parcel: _Optional[bytes] = ..., place: _Optional[int] = ...) -> None: ...

class FetchChunkResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class TakeParcelRequest(_message.Message):
    __slots__ = ("parcel",)
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    parcel: bytes
    def __init__(self, parcel: _Optional[bytes] = ...) -> None: ...

class TakeParcelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
