"""Who takes part in a channel, and how the other members learn of it: on one node, and on nodes that share a Redis.

A package of its own, since presence works without Redis too. Imports `cluster` and `fanout`; the node is its only user.
"""
