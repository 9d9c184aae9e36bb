"""The part of webhooks that runs in every node: sending what waits in the database.

Imports `base` and `accounts`; only `node` uses it.
"""
