from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BasisKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASIS_KIND_UNSPECIFIED: _ClassVar[BasisKind]
    BASIS_KIND_GRANT: _ClassVar[BasisKind]
    BASIS_KIND_STATUTE: _ClassVar[BasisKind]
    BASIS_KIND_ANSWER: _ClassVar[BasisKind]

class GrantMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRANT_MODE_UNSPECIFIED: _ClassVar[GrantMode]
    GRANT_MODE_REQUEST: _ClassVar[GrantMode]
    GRANT_MODE_DIRECT_PAY: _ClassVar[GrantMode]

class Revoker(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOKER_UNSPECIFIED: _ClassVar[Revoker]
    REVOKER_GUARDIAN: _ClassVar[Revoker]
    REVOKER_RECOVERY: _ClassVar[Revoker]
    REVOKER_HOSPITAL: _ClassVar[Revoker]
    REVOKER_HOTLINE: _ClassVar[Revoker]

class KeyChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_CHANGE_UNSPECIFIED: _ClassVar[KeyChange]
    KEY_CHANGE_ADD: _ClassVar[KeyChange]
    KEY_CHANGE_REVOKE: _ClassVar[KeyChange]

class KeyRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_ROLE_UNSPECIFIED: _ClassVar[KeyRole]
    KEY_ROLE_DEVICE: _ClassVar[KeyRole]
    KEY_ROLE_GUARDIAN: _ClassVar[KeyRole]
    KEY_ROLE_RECOVERY: _ClassVar[KeyRole]

class DeletionOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELETION_OUTCOME_UNSPECIFIED: _ClassVar[DeletionOutcome]
    DELETION_OUTCOME_DELETED: _ClassVar[DeletionOutcome]
    DELETION_OUTCOME_KEPT: _ClassVar[DeletionOutcome]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_OPENED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]
BASIS_KIND_UNSPECIFIED: BasisKind
BASIS_KIND_GRANT: BasisKind
BASIS_KIND_STATUTE: BasisKind
BASIS_KIND_ANSWER: BasisKind
GRANT_MODE_UNSPECIFIED: GrantMode
GRANT_MODE_REQUEST: GrantMode
GRANT_MODE_DIRECT_PAY: GrantMode
REVOKER_UNSPECIFIED: Revoker
REVOKER_GUARDIAN: Revoker
REVOKER_RECOVERY: Revoker
REVOKER_HOSPITAL: Revoker
REVOKER_HOTLINE: Revoker
KEY_CHANGE_UNSPECIFIED: KeyChange
KEY_CHANGE_ADD: KeyChange
KEY_CHANGE_REVOKE: KeyChange
KEY_ROLE_UNSPECIFIED: KeyRole
KEY_ROLE_DEVICE: KeyRole
KEY_ROLE_GUARDIAN: KeyRole
KEY_ROLE_RECOVERY: KeyRole
DELETION_OUTCOME_UNSPECIFIED: DeletionOutcome
DELETION_OUTCOME_DELETED: DeletionOutcome
DELETION_OUTCOME_KEPT: DeletionOutcome
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_OPENED: Outcome
OUTCOME_REFUSED: Outcome

class Envelope(_message.Message):
    __slots__ = ("payload_type", "payload", "key_id", "signature", "index", "size", "path")
    PAYLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    payload_type: str
    payload: bytes
    key_id: bytes
    signature: bytes
    index: int
    size: int
    path: bytes
    def __init__(self, payload_type: _Optional[str] = ..., payload: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., index: _Optional[int] = ..., size: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class Presentation(_message.Message):
    __slots__ = ("version", "suite", "aud", "sender", "recipient", "key_id", "basis_kind", "basis", "purpose", "encounter", "manifest_hash", "ceilings", "capsule_hash", "gate_commitment", "epoch_id", "workflow", "correlation", "in_reply_to", "ticket_hash", "nonce", "issued_at", "not_after")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    BASIS_KIND_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    ENCOUNTER_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_HASH_FIELD_NUMBER: _ClassVar[int]
    CEILINGS_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_HASH_FIELD_NUMBER: _ClassVar[int]
    GATE_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    TICKET_HASH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    sender: bytes
    recipient: bytes
    key_id: bytes
    basis_kind: BasisKind
    basis: bytes
    purpose: str
    encounter: bytes
    manifest_hash: bytes
    ceilings: bytes
    capsule_hash: bytes
    gate_commitment: bytes
    epoch_id: bytes
    workflow: bytes
    correlation: bytes
    in_reply_to: bytes
    ticket_hash: bytes
    nonce: bytes
    issued_at: int
    not_after: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., sender: _Optional[bytes] = ..., recipient: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., basis_kind: _Optional[_Union[BasisKind, str]] = ..., basis: _Optional[bytes] = ..., purpose: _Optional[str] = ..., encounter: _Optional[bytes] = ..., manifest_hash: _Optional[bytes] = ..., ceilings: _Optional[bytes] = ..., capsule_hash: _Optional[bytes] = ..., gate_commitment: _Optional[bytes] = ..., epoch_id: _Optional[bytes] = ..., workflow: _Optional[bytes] = ..., correlation: _Optional[bytes] = ..., in_reply_to: _Optional[bytes] = ..., ticket_hash: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., issued_at: _Optional[int] = ..., not_after: _Optional[int] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("schema_hash", "levels")
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    schema_hash: bytes
    levels: bytes
    def __init__(self, schema_hash: _Optional[bytes] = ..., levels: _Optional[bytes] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("version", "suite", "grant_id", "subject_key", "aud", "purpose", "sender", "recipient", "encounter", "scopes", "max_uses", "not_before", "expiry", "issued_at", "mode", "cnf", "data_erase_at", "terms", "request_hash", "wallet_key")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    GRANT_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    ENCOUNTER_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MAX_USES_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CNF_FIELD_NUMBER: _ClassVar[int]
    DATA_ERASE_AT_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    WALLET_KEY_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    grant_id: bytes
    subject_key: bytes
    aud: str
    purpose: str
    sender: bytes
    recipient: bytes
    encounter: bytes
    scopes: _containers.RepeatedCompositeFieldContainer[Scope]
    max_uses: int
    not_before: int
    expiry: int
    issued_at: int
    mode: GrantMode
    cnf: bytes
    data_erase_at: int
    terms: bytes
    request_hash: bytes
    wallet_key: bytes
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., grant_id: _Optional[bytes] = ..., subject_key: _Optional[bytes] = ..., aud: _Optional[str] = ..., purpose: _Optional[str] = ..., sender: _Optional[bytes] = ..., recipient: _Optional[bytes] = ..., encounter: _Optional[bytes] = ..., scopes: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., max_uses: _Optional[int] = ..., not_before: _Optional[int] = ..., expiry: _Optional[int] = ..., issued_at: _Optional[int] = ..., mode: _Optional[_Union[GrantMode, str]] = ..., cnf: _Optional[bytes] = ..., data_erase_at: _Optional[int] = ..., terms: _Optional[bytes] = ..., request_hash: _Optional[bytes] = ..., wallet_key: _Optional[bytes] = ...) -> None: ...

class ConsentRequest(_message.Message):
    __slots__ = ("version", "suite", "request_id", "aud", "purpose", "sender", "recipient", "encounter", "scopes", "max_uses", "issued_at", "expiry", "data_erase_at", "terms_salt", "terms", "subject_key", "mode")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    ENCOUNTER_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MAX_USES_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_FIELD_NUMBER: _ClassVar[int]
    DATA_ERASE_AT_FIELD_NUMBER: _ClassVar[int]
    TERMS_SALT_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    request_id: bytes
    aud: str
    purpose: str
    sender: bytes
    recipient: bytes
    encounter: bytes
    scopes: _containers.RepeatedCompositeFieldContainer[Scope]
    max_uses: int
    issued_at: int
    expiry: int
    data_erase_at: int
    terms_salt: bytes
    terms: bytes
    subject_key: bytes
    mode: GrantMode
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., request_id: _Optional[bytes] = ..., aud: _Optional[str] = ..., purpose: _Optional[str] = ..., sender: _Optional[bytes] = ..., recipient: _Optional[bytes] = ..., encounter: _Optional[bytes] = ..., scopes: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., max_uses: _Optional[int] = ..., issued_at: _Optional[int] = ..., expiry: _Optional[int] = ..., data_erase_at: _Optional[int] = ..., terms_salt: _Optional[bytes] = ..., terms: _Optional[bytes] = ..., subject_key: _Optional[bytes] = ..., mode: _Optional[_Union[GrantMode, str]] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("version", "suite", "grant_hash", "nonce", "hospital", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    GRANT_HASH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    HOSPITAL_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    grant_hash: bytes
    nonce: bytes
    hospital: bytes
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., grant_hash: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., hospital: _Optional[bytes] = ..., issued_at: _Optional[int] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("version", "suite", "aud", "grant_hash", "issued_at", "subject", "by", "reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    GRANT_HASH_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    grant_hash: bytes
    issued_at: int
    subject: bytes
    by: Revoker
    reason: str
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., grant_hash: _Optional[bytes] = ..., issued_at: _Optional[int] = ..., subject: _Optional[bytes] = ..., by: _Optional[_Union[Revoker, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class SubjectKey(_message.Message):
    __slots__ = ("version", "suite", "aud", "subject", "change", "key", "role", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    subject: bytes
    change: KeyChange
    key: bytes
    role: KeyRole
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., subject: _Optional[bytes] = ..., change: _Optional[_Union[KeyChange, str]] = ..., key: _Optional[bytes] = ..., role: _Optional[_Union[KeyRole, str]] = ..., issued_at: _Optional[int] = ...) -> None: ...

class Deletion(_message.Message):
    __slots__ = ("version", "suite", "aud", "recipient", "presentation_hash", "outcome", "reason", "until", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_HASH_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    recipient: bytes
    presentation_hash: bytes
    outcome: DeletionOutcome
    reason: str
    until: int
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., recipient: _Optional[bytes] = ..., presentation_hash: _Optional[bytes] = ..., outcome: _Optional[_Union[DeletionOutcome, str]] = ..., reason: _Optional[str] = ..., until: _Optional[int] = ..., issued_at: _Optional[int] = ...) -> None: ...

class KemKey(_message.Message):
    __slots__ = ("alg", "public_key")
    ALG_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    alg: int
    public_key: bytes
    def __init__(self, alg: _Optional[int] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class KeyStatement(_message.Message):
    __slots__ = ("version", "suite", "participant", "serial", "issued_at", "not_after", "identity_key", "signing_key", "cosigning_key", "kem_keys", "tls_spki", "pseudonym_keys")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    COSIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    KEM_KEYS_FIELD_NUMBER: _ClassVar[int]
    TLS_SPKI_FIELD_NUMBER: _ClassVar[int]
    PSEUDONYM_KEYS_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    participant: bytes
    serial: int
    issued_at: int
    not_after: int
    identity_key: bytes
    signing_key: bytes
    cosigning_key: bytes
    kem_keys: _containers.RepeatedCompositeFieldContainer[KemKey]
    tls_spki: _containers.RepeatedScalarFieldContainer[bytes]
    pseudonym_keys: _containers.RepeatedCompositeFieldContainer[PseudonymKey]
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., participant: _Optional[bytes] = ..., serial: _Optional[int] = ..., issued_at: _Optional[int] = ..., not_after: _Optional[int] = ..., identity_key: _Optional[bytes] = ..., signing_key: _Optional[bytes] = ..., cosigning_key: _Optional[bytes] = ..., kem_keys: _Optional[_Iterable[_Union[KemKey, _Mapping]]] = ..., tls_spki: _Optional[_Iterable[bytes]] = ..., pseudonym_keys: _Optional[_Iterable[_Union[PseudonymKey, _Mapping]]] = ...) -> None: ...

class PseudonymKey(_message.Message):
    __slots__ = ("recipient", "epoch", "public_key")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    recipient: bytes
    epoch: int
    public_key: bytes
    def __init__(self, recipient: _Optional[bytes] = ..., epoch: _Optional[int] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class EpochOffer(_message.Message):
    __slots__ = ("version", "suite", "node", "epoch_id", "gate_key_id", "not_before", "not_after", "sealed_secret")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_ID_FIELD_NUMBER: _ClassVar[int]
    GATE_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    SEALED_SECRET_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    node: bytes
    epoch_id: bytes
    gate_key_id: bytes
    not_before: int
    not_after: int
    sealed_secret: bytes
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., node: _Optional[bytes] = ..., epoch_id: _Optional[bytes] = ..., gate_key_id: _Optional[bytes] = ..., not_before: _Optional[int] = ..., not_after: _Optional[int] = ..., sealed_secret: _Optional[bytes] = ...) -> None: ...

class Attestation(_message.Message):
    __slots__ = ("version", "suite", "subject_key", "attester", "role", "not_after")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTESTER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    subject_key: bytes
    attester: bytes
    role: str
    not_after: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., subject_key: _Optional[bytes] = ..., attester: _Optional[bytes] = ..., role: _Optional[str] = ..., not_after: _Optional[int] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("version", "suite", "aud", "recipient", "presentation_hash", "leaf_hash", "index", "size", "root", "outcome", "reason", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_HASH_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    recipient: bytes
    presentation_hash: bytes
    leaf_hash: bytes
    index: int
    size: int
    root: bytes
    outcome: Outcome
    reason: str
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., recipient: _Optional[bytes] = ..., presentation_hash: _Optional[bytes] = ..., leaf_hash: _Optional[bytes] = ..., index: _Optional[int] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., issued_at: _Optional[int] = ...) -> None: ...

class PolicyStatement(_message.Message):
    __slots__ = ("version", "suite", "registrar", "policy_hash", "issued_at", "not_after")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    REGISTRAR_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    registrar: bytes
    policy_hash: bytes
    issued_at: int
    not_after: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., registrar: _Optional[bytes] = ..., policy_hash: _Optional[bytes] = ..., issued_at: _Optional[int] = ..., not_after: _Optional[int] = ...) -> None: ...

class WalletProof(_message.Message):
    __slots__ = ("version", "suite", "aud", "challenge", "method")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    challenge: bytes
    method: str
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., challenge: _Optional[bytes] = ..., method: _Optional[str] = ...) -> None: ...

class PseudonymQuota(_message.Message):
    __slots__ = ("version", "suite", "aud", "recipient", "epoch", "allowed", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    recipient: bytes
    epoch: int
    allowed: int
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., recipient: _Optional[bytes] = ..., epoch: _Optional[int] = ..., allowed: _Optional[int] = ..., issued_at: _Optional[int] = ...) -> None: ...

class ErasureOrder(_message.Message):
    __slots__ = ("version", "suite", "aud", "entries", "basis", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    entries: _containers.RepeatedScalarFieldContainer[int]
    basis: str
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., entries: _Optional[_Iterable[int]] = ..., basis: _Optional[str] = ..., issued_at: _Optional[int] = ...) -> None: ...

class LegalHold(_message.Message):
    __slots__ = ("version", "suite", "aud", "target", "lifted", "basis", "issued_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    LIFTED_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    target: bytes
    lifted: bool
    basis: str
    issued_at: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., target: _Optional[bytes] = ..., lifted: _Optional[bool] = ..., basis: _Optional[str] = ..., issued_at: _Optional[int] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("version", "suite", "aud", "participant", "suspended", "reason", "issued_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    suite: int
    aud: str
    participant: bytes
    suspended: bool
    reason: str
    issued_ms: int
    def __init__(self, version: _Optional[int] = ..., suite: _Optional[int] = ..., aud: _Optional[str] = ..., participant: _Optional[bytes] = ..., suspended: _Optional[bool] = ..., reason: _Optional[str] = ..., issued_ms: _Optional[int] = ...) -> None: ...
