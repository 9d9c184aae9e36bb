"""The part of webhooks that runs in every node: it gathers events, and sends what waits in the database.

Imports `cluster` and below; only `node` uses it.
"""
