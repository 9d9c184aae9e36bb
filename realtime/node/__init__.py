"""One server process: its connections, cached API keys, message quotas and shutdown.

Fan-out, cluster and presence meet only in this package. The consumer and `http` import it; lower layers do not.
"""
