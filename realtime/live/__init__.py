"""Live: what happens in a cluster, shown to the people of its account while they look at it.

Imports no node: the node reports its events here, and asks for nothing.
"""
