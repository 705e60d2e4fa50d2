"""The access policies: Cedar text to handles, and a request to the rules that settle it (DESIGN section 11).

Cedar skips a policy that fails to evaluate, a forbid too. So everything is checked against the Cedar schema when it is
loaded, and an evaluation with any error permits nothing.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import cedarpy

from policies.bundle import BASES, ROLES, STATUSES, Access, Files, Request, Rule
from zhifu import schema
from zhifu.errors import CATALOGUE, Refused
from zhifu.presentation import PURPOSES

SCHEMA_FILE: Final = "access/zhifu.cedarschema"

_ACTION: Final = 'Action::"disclose"'
_ID: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LANGUAGES: Final = ("zh", "en")
_DENIED: Final = "policy.denied"
_SIDES: Final = ("sender", "recipient")
# A decision depends on nothing of a participant but these, so every participant there can be is known beforehand.
_PARTICIPANTS: Final = {
    (side, role, status): {"type": "Participant", "id": f"{side}/{role}/{status}"}
    for side, role, status in itertools.product(_SIDES, ROLES, STATUSES)
}


def parse(files: Files) -> Access:
    """The access policies among ``files``. Raises `Refused` (policy.invalid) with the file at fault.

    Refused are: text that does not parse or does not fit the Cedar schema, a template, a policy without a unique @id
    or without its sentences (@zh, @en), an annotation of another name, a @reason that is not in the catalogue, and a
    Cedar schema that does not know every word of this protocol.
    """
    texts = {name: _text(name, source) for name, source in files.items()}
    declared = texts.pop(SCHEMA_FILE, None)
    if declared is None:
        raise Refused("policy.invalid", f"{SCHEMA_FILE}: is missing")
    known = _schema(declared)
    rules: dict[str, Rule] = {}
    for name, text in texts.items():
        for rule in _rules(name, text, known):
            if rule.id in rules:
                raise Refused("policy.invalid", f"{name}: a second policy has the id {rule.id}")
            rules[rule.id] = rule
    access = Access(rules, cedarpy.PolicySet.from_str("\n".join(texts.values())), _entities(known), known)
    _check_words(access)
    return access


def evaluate(access: Access, request: Request) -> tuple[bool, tuple[Rule, ...]]:
    """Whether the policies permit ``request``, and the rules that say so, in their order; no rule where none speaks.

    An error while evaluating permits nothing. Costs about 100 microseconds, so callers keep the answer.
    """
    try:
        answer = cedarpy.is_authorized(_question(request), access.policies, access.entities, access.schema)
    except (KeyError, ValueError):  # a word that cannot be a participant, or not even text
        return False, ()
    return _read(access, answer)


@lru_cache(maxsize=16)
def evaluate_all(access: Access, requests: tuple[Request, ...]) -> tuple[tuple[bool, tuple[Rule, ...]], ...]:
    """`evaluate` for many, whose words this protocol knows, in half the time. Raises `KeyError` for other words.

    Kept: whoever compares versions of a policy asks thousands of things of rules that are mostly the same.
    """
    questions = [_question(one) for one in requests]
    answers = cedarpy.is_authorized_batch(questions, access.policies, access.entities, access.schema)
    return tuple(_read(access, answer) for answer in answers)


def _read(access: Access, answer: cedarpy.AuthzResult) -> tuple[bool, tuple[Rule, ...]]:
    if answer.diagnostics.errors or answer.decision is cedarpy.Decision.NoDecision:
        return False, ()
    named = set(answer.diagnostics.id_annotations_by_reason.values())
    return answer.allowed, tuple(rule for rule in access.rules.values() if rule.id in named)


def _text(name: str, source: bytes) -> str:
    try:
        return source.decode()
    except UnicodeDecodeError:
        raise Refused("policy.invalid", f"{name}: is not UTF-8") from None


def _schema(text: str) -> cedarpy.Schema:
    try:
        return cedarpy.Schema.from_str(text)
    except ValueError as error:
        raise Refused("policy.invalid", f"{SCHEMA_FILE}: {error}") from None


def _rules(name: str, text: str, known: cedarpy.Schema) -> Iterator[Rule]:
    try:
        document = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise Refused("policy.invalid", f"{name}: {error}") from None
    if document["templates"]:
        raise Refused("policy.invalid", f"{name}: a template permits and forbids nothing by itself")
    for key in sorted(document["staticPolicies"], key=lambda key: int(key.removeprefix("policy"))):
        yield _rule(name, document["staticPolicies"][key])
    checked = cedarpy.validate_policies(text, known)
    for found in checked.errors:
        rule_id = checked.id_annotations_by_policy_id.get(found.policy_id, "")
        raise Refused("policy.invalid", f"{name}: {found.error.replace(found.policy_id, rule_id)}")


def _rule(name: str, policy: Mapping[str, Any]) -> Rule:
    given = dict(policy.get("annotations", {}))
    rule_id = given.pop("id", None) or ""
    if not _ID.fullmatch(rule_id):
        raise Refused("policy.invalid", f"{name}: a policy has no @id, or not one of lower-case words and hyphens")
    titles = {language: given.pop(language, None) or "" for language in _LANGUAGES}
    if not all(titles.values()):
        raise Refused("policy.invalid", f"{name}: {rule_id} needs a sentence in @zh and in @en")
    reason = given.pop("reason", _DENIED) if policy["effect"] == "forbid" else _DENIED
    if reason not in CATALOGUE:
        raise Refused("policy.invalid", f"{name}: the @reason of {rule_id} is not in the catalogue")
    for key in given:
        raise Refused("policy.invalid", f"{name}: {rule_id} has an annotation @{key} that means nothing here")
    return Rule(rule_id, policy["effect"], reason, titles)


def _entities(known: cedarpy.Schema) -> cedarpy.Entities:
    listed = [
        {"uid": uid, "attrs": {"role": _word("Role", role), "status": _word("Status", status)}, "parents": []}
        for (_, role, status), uid in _PARTICIPANTS.items()
    ]
    try:
        return cedarpy.Entities.from_json_str(json.dumps(listed), known)
    except ValueError as error:
        raise Refused("policy.invalid", f"{SCHEMA_FILE}: participants do not fit: {error}") from None


def _check_words(access: Access) -> None:
    """Ask once with every word: a Cedar schema that lacks one would deny its exchanges without saying why."""
    active = _PARTICIPANTS["sender", ROLES[0], STATUSES[0]]
    asked = {"principal": active, "action": _ACTION, "resource": active}
    questions: list[dict[str, Any]] = [
        asked | {"context": _context(purpose, basis, name) | {"answers": _matter(purpose, name)}}
        for purpose, basis, name in itertools.product(PURPOSES, BASES, schema.names())
    ]
    for answer in cedarpy.is_authorized_batch(questions, access.policies, access.entities, access.schema):
        if answer.diagnostics.errors:
            raise Refused("policy.invalid", f"{SCHEMA_FILE}: {answer.diagnostics.errors[0]}")


def _question(request: Request) -> dict[str, Any]:
    sender = _PARTICIPANTS["sender", request.sender_role, request.sender_status]
    recipient = _PARTICIPANTS["recipient", request.recipient_role, request.recipient_status]
    context = _context(request.purpose, request.basis, request.schema)
    if request.asked_purpose is not None and request.asked_schema is not None:
        context["answers"] = _matter(request.asked_purpose, request.asked_schema)
    resource = sender if request.same_participant else recipient
    return {"principal": sender, "action": _ACTION, "resource": resource, "context": context}


def _context(purpose: str, basis: str, schema_name: str) -> dict[str, Any]:
    return _matter(purpose, schema_name) | {"basis": _word("Basis", basis)}


def _matter(purpose: str, schema_name: str) -> dict[str, Any]:
    return {"purpose": _word("Purpose", purpose), "schema": _word("Schema", schema_name)}


def _word(kind: str, word: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": word}}
