"""The data plane: what a connection does, from its handshake to its close.

This folder holds the wiring and the consumer; ARCHITECTURE.md describes the packages. It imports `accounts`, never the
other way round.
"""
