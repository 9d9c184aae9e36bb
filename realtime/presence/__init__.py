"""Presence: the members of each channel and the events about them, on a single node or on nodes that share a Redis.

Imports `cluster` and `fanout`; `webhooks` and `node` use it.
"""
