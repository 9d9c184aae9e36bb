"""The commands `serve`, `demo` and `token`, and what they share: the running server's port, and what they print.

Nothing else imports them.
"""
