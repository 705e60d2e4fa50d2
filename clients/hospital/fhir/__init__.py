"""FHIR R4 at the hospital's edge: a Claim and what it refers to, in; a Bundle, ClaimResponse or EOB, out.

Default deny. `allowed` names every element that may be read; nothing else of a file is in the copy that the other
modules see, so extensions, narratives, ``Reference.display``, attachments and unreferenced contained resources cannot
reach a unit. The copy is valid FHIR by `fhir.resources` (R4B, whose Claim, Patient, Coverage, Condition, Encounter,
Organization, ClaimResponse and ExplanationOfBenefit are those of R4). What a file leaves open stays open: a unit
without a value, and a note in the report; nothing is invented.
"""
