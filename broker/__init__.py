"""The broker: consent, gate, audit and delivery between nodes that do not trust one another, nor it."""
