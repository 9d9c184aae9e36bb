"""Counting, and showing the counts to Prometheus.

Every package may import the counters and the lag, which import nothing; `exposition` reads a node and is imported by
`http` only.
"""
