"""Extensions of Daphne, Twisted and Autobahn, and limits on how much of the process a client may use.

Only these modules depend on internals of those libraries. They import `fanout` and `protocols` but not `node`.
"""
