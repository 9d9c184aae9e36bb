"""Cooperation of nodes through Redis: they forward messages, count connections together, and keep leases.

Also works on a single node, without Redis. Imports `protocols` and `base`.
"""
