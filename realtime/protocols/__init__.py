"""The meaning of URLs, frames and events: decisions about plain values, without I/O and without Django.

Imports `base`, and the plain values of `accounts.key_access`. Every package above may import it.
"""
