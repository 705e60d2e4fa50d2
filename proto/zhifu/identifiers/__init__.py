"""Numbers that point at a person: one spelling for each, and the check digits that tell them from chance."""
