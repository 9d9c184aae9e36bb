"""Cooperation of nodes through Redis: they forward messages to each other, and count connections together.

Also works on a single node, without Redis. Imports `protocols` and `base`.
"""
