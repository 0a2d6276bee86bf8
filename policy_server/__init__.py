"""Serves a policy over gRPC, on the wire that LBM Eval speaks."""
