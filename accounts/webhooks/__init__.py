"""Webhooks: HTTP requests that tell a tenant's servers what happens in their channels.

`queue` keeps deliveries in the database until senders of any node have delivered them, which `exchange` manages, and
`pruning` limits the log. `schedule` decides when something is sent,
`signing` makes the headers that receivers verify, and `client` and `addresses` send requests to public addresses only.
"""
