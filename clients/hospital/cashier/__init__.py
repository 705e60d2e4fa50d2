"""The cashier's page: take the bill and the patient's codes, see the split, take the rest, print the statement."""
