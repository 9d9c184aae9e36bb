"""Small tools that know nothing about connections and channels: ASGI types, rate limits, a fair queue, tasks.

Every package of `realtime` may import them; they import nothing from it.
"""
