"""What nodes do together through Redis: pass messages on, and count connections.

Imports `protocols` and `base`. Works the same, with nobody to talk to, on a node that is alone.
"""
