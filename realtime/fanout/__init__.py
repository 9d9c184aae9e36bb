"""How bytes reach the members of a channel on this node, without Django and without Channels.

Imports `protocols` and the counters of `metrics`; knows neither tenants nor other nodes.
"""
