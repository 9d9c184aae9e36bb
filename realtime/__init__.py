"""The data plane: everything that a connection does, from its handshake to its close.

The modules of this folder are the wiring and the consumer; ARCHITECTURE.md describes the packages. `realtime` imports
`accounts`, never the other way round.
"""
