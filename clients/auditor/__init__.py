"""The auditor's side: it trusts its own pins and nothing that the broker says (DESIGN sections 2 and 7)."""
