"""What one server process serves: its connections, the keys it knows, the quotas it enforces, and its shutdown.

The only place where fan-out, cluster and presence meet. The consumer and `http` import it; nothing below does.
"""
