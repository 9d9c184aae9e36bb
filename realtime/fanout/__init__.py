"""Delivery of messages to the members of a channel on this node, without Django and without Channels.

Imports `protocols` and the counters of `metrics`; knows nothing about tenants and other nodes.
"""
