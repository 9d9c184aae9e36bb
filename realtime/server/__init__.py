"""The insides of Daphne, Twisted and Autobahn, and how much of the process a client may take.

Only these modules know those libraries. Imports `fanout` and `protocols`; knows no node.
"""
