"""The protocols that clients speak: what a connection answers, and what its frames ask the node to do.

Each protocol is one class. What its URLs and frames mean is decided in `protocols`, on plain values.
"""
