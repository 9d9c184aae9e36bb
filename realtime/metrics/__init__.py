"""Metrics: collecting them, and exposing them to Prometheus.

Every package may import the counters and the lag, which import nothing else. `exposition` reads a node; only `http`
imports it.
"""
