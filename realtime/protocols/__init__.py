"""What URLs, frames and events mean: decisions on plain values, without I/O and without Django.

Imports `base` and the plain values of `accounts.key_access`; every package above may import it.
"""
