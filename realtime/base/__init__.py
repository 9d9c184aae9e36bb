"""Small tools that know nothing of connections and channels: ASGI types, rate limits, a fair queue, ending tasks.

Every package of `realtime` may import them; they import nothing of it.
"""
