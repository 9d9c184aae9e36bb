"""The part of webhooks that runs in every node: it gathers events, and sends what waits in the database.

Imports `presence` and below; only `node` uses it.
"""
