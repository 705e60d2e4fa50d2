"""gRPC at the edge: decode, call, encode; nothing is decided here."""
