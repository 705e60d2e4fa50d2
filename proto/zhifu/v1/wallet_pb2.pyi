from zhifu.v1 import exchange_pb2 as _exchange_pb2
from zhifu.v1 import signed_pb2 as _signed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChallengeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChallengeResponse(_message.Message):
    __slots__ = ("challenge", "clock_ms")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    clock_ms: int
    def __init__(self, challenge: _Optional[bytes] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class EnrolSubjectRequest(_message.Message):
    __slots__ = ("proof", "subject_key", "attestations", "keys")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    proof: _signed_pb2.Envelope
    subject_key: bytes
    attestations: _containers.RepeatedCompositeFieldContainer[_signed_pb2.Envelope]
    keys: _containers.RepeatedCompositeFieldContainer[SignedKeyChange]
    def __init__(self, proof: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., subject_key: _Optional[bytes] = ..., attestations: _Optional[_Iterable[_Union[_signed_pb2.Envelope, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[SignedKeyChange, _Mapping]]] = ...) -> None: ...

class SignedKeyChange(_message.Message):
    __slots__ = ("change", "accepted")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    change: _signed_pb2.Envelope
    accepted: _signed_pb2.Envelope
    def __init__(self, change: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., accepted: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class EnrolSubjectResponse(_message.Message):
    __slots__ = ("proof", "entry")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ...) -> None: ...

class RegisterGrantRequest(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: _signed_pb2.Envelope
    def __init__(self, grant: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class RegisterGrantResponse(_message.Message):
    __slots__ = ("grant_hash", "proof", "entry")
    GRANT_HASH_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    grant_hash: bytes
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    def __init__(self, grant_hash: _Optional[bytes] = ..., proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ...) -> None: ...

class RevokeGrantRequest(_message.Message):
    __slots__ = ("revocation",)
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    revocation: _signed_pb2.Envelope
    def __init__(self, revocation: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class RevokeGrantResponse(_message.Message):
    __slots__ = ("proof", "entry", "delivered", "withheld", "grants")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    delivered: int
    withheld: int
    grants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ..., delivered: _Optional[int] = ..., withheld: _Optional[int] = ..., grants: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ListAccessesRequest(_message.Message):
    __slots__ = ("proof", "after")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    proof: _signed_pb2.Envelope
    after: int
    def __init__(self, proof: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class Access(_message.Message):
    __slots__ = ("presentation_hash", "sender", "recipient", "purpose", "state", "schema_hash", "released", "time_ms", "grant_hash", "presentation", "deletion", "deletion_due")
    PRESENTATION_HASH_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    GRANT_HASH_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    DELETION_FIELD_NUMBER: _ClassVar[int]
    DELETION_DUE_FIELD_NUMBER: _ClassVar[int]
    presentation_hash: bytes
    sender: bytes
    recipient: bytes
    purpose: str
    state: str
    schema_hash: bytes
    released: bytes
    time_ms: int
    grant_hash: bytes
    presentation: _signed_pb2.Envelope
    deletion: _signed_pb2.Envelope
    deletion_due: bool
    def __init__(self, presentation_hash: _Optional[bytes] = ..., sender: _Optional[bytes] = ..., recipient: _Optional[bytes] = ..., purpose: _Optional[str] = ..., state: _Optional[str] = ..., schema_hash: _Optional[bytes] = ..., released: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., grant_hash: _Optional[bytes] = ..., presentation: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., deletion: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., deletion_due: _Optional[bool] = ...) -> None: ...

class ListAccessesResponse(_message.Message):
    __slots__ = ("accesses", "earlier", "next")
    ACCESSES_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    accesses: _containers.RepeatedCompositeFieldContainer[Access]
    earlier: _containers.RepeatedCompositeFieldContainer[_exchange_pb2.DirectoryEntry]
    next: int
    def __init__(self, accesses: _Optional[_Iterable[_Union[Access, _Mapping]]] = ..., earlier: _Optional[_Iterable[_Union[_exchange_pb2.DirectoryEntry, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class FetchMailboxRequest(_message.Message):
    __slots__ = ("proof", "head_size", "head_root", "participants")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROOT_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    proof: _signed_pb2.Envelope
    head_size: int
    head_root: bytes
    participants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, proof: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., head_size: _Optional[int] = ..., head_root: _Optional[bytes] = ..., participants: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FetchMailboxResponse(_message.Message):
    __slots__ = ("frames", "directory", "earlier")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_exchange_pb2.DeliveryFrame]
    directory: _containers.RepeatedCompositeFieldContainer[_exchange_pb2.DirectoryEntry]
    earlier: _containers.RepeatedCompositeFieldContainer[_exchange_pb2.DirectoryEntry]
    def __init__(self, frames: _Optional[_Iterable[_Union[_exchange_pb2.DeliveryFrame, _Mapping]]] = ..., directory: _Optional[_Iterable[_Union[_exchange_pb2.DirectoryEntry, _Mapping]]] = ..., earlier: _Optional[_Iterable[_Union[_exchange_pb2.DirectoryEntry, _Mapping]]] = ...) -> None: ...

class AcknowledgeMailboxRequest(_message.Message):
    __slots__ = ("acknowledgements",)
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    acknowledgements: _exchange_pb2.AcknowledgementFrame
    def __init__(self, acknowledgements: _Optional[_Union[_exchange_pb2.AcknowledgementFrame, _Mapping]] = ...) -> None: ...

class AcknowledgeMailboxResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChangeKeyRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: SignedKeyChange
    def __init__(self, key: _Optional[_Union[SignedKeyChange, _Mapping]] = ...) -> None: ...

class ChangeKeyResponse(_message.Message):
    __slots__ = ("proof", "entry", "active_ms")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_MS_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    active_ms: int
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ..., active_ms: _Optional[int] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: _signed_pb2.Envelope
    def __init__(self, proof: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class KeyEntry(_message.Message):
    __slots__ = ("change", "status", "active_ms", "signer")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    change: _signed_pb2.Envelope
    status: str
    active_ms: int
    signer: bytes
    def __init__(self, change: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., status: _Optional[str] = ..., active_ms: _Optional[int] = ..., signer: _Optional[bytes] = ...) -> None: ...

class GrantEntry(_message.Message):
    __slots__ = ("grant", "status", "uses", "revocation")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    grant: _signed_pb2.Envelope
    status: str
    uses: int
    revocation: _signed_pb2.Envelope
    def __init__(self, grant: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., status: _Optional[str] = ..., uses: _Optional[int] = ..., revocation: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "grants", "clock_ms")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[KeyEntry]
    grants: _containers.RepeatedCompositeFieldContainer[GrantEntry]
    clock_ms: int
    def __init__(self, keys: _Optional[_Iterable[_Union[KeyEntry, _Mapping]]] = ..., grants: _Optional[_Iterable[_Union[GrantEntry, _Mapping]]] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class LeaveParcelRequest(_message.Message):
    __slots__ = ("parcel",)
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    parcel: _signed_pb2.Envelope
    def __init__(self, parcel: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class LeaveParcelResponse(_message.Message):
    __slots__ = ("state", "missing")
    STATE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    state: str
    missing: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, state: _Optional[str] = ..., missing: _Optional[_Iterable[int]] = ...) -> None: ...

class PutChunkRequest(_message.Message):
    __slots__ = ("parcel", "place", "chunk")
    PARCEL_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    parcel: bytes
    place: int
    chunk: bytes
    def __init__(self, parcel: _Optional[bytes] = ..., place: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PutChunkResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: int
    def __init__(self, missing: _Optional[int] = ...) -> None: ...

class WithdrawParcelRequest(_message.Message):
    __slots__ = ("revocation",)
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    revocation: _signed_pb2.Envelope
    def __init__(self, revocation: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ...) -> None: ...

class WithdrawParcelResponse(_message.Message):
    __slots__ = ("proof", "entry", "taken")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    proof: _exchange_pb2.LogProof
    entry: _exchange_pb2.EntryOpening
    taken: bool
    def __init__(self, proof: _Optional[_Union[_exchange_pb2.LogProof, _Mapping]] = ..., entry: _Optional[_Union[_exchange_pb2.EntryOpening, _Mapping]] = ..., taken: _Optional[bool] = ...) -> None: ...

class OfferCodeRequest(_message.Message):
    __slots__ = ("proof", "hospital", "sealed")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    HOSPITAL_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    proof: _signed_pb2.Envelope
    hospital: bytes
    sealed: bytes
    def __init__(self, proof: _Optional[_Union[_signed_pb2.Envelope, _Mapping]] = ..., hospital: _Optional[bytes] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class OfferCodeResponse(_message.Message):
    __slots__ = ("code", "until_ms", "clock_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    until_ms: int
    clock_ms: int
    def __init__(self, code: _Optional[str] = ..., until_ms: _Optional[int] = ..., clock_ms: _Optional[int] = ...) -> None: ...
