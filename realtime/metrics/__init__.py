"""Metrics: collecting them, and exposing them to Prometheus.

Every package may import the counters and the lag, which import only `base`. `exposition` names all metrics and reads
them from a node; only `http` imports it.
"""
