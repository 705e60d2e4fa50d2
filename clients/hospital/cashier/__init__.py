"""The cashier's page: take the bill and the patient's codes, see the split, take the rest, print the statement."""

KEY_FILE = "desk.key"
"""What opens the pages, in the node's folder."""
