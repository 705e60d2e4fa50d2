from zhifu.v1 import exchange_pb2 as _exchange_pb2
from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("invite", "csr", "key_statement")
    INVITE_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    KEY_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    invite: str
    csr: bytes
    key_statement: _signed_pb2.Envelope
    def __init__(self, invite: _Optional[str] = ..., csr: _Optional[bytes] = ..., key_statement: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("certificate", "authority", "participant")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    authority: bytes
    participant: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., authority: _Optional[bytes] = ..., participant: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class SetStandingRequest(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: _signed_pb2.Envelope
    def __init__(self, order: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class SetStandingResponse(_message.Message):
    __slots__ = ("proof", "entry")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ...) -> None: ...
