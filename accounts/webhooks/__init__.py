"""Webhooks: HTTP requests that tell a tenant's servers what happens in their channels.

`queue` keeps deliveries in the database until a sender of any node has delivered them, `schedule` decides when,
`signing` makes the headers that receivers verify, and `client` and `addresses` send requests to public addresses only.
"""
