"""Webhooks: HTTP requests that tell a tenant's servers what happens in their channels.

`queue` keeps deliveries in the database, `exchange` gives them to the senders of all nodes and writes the results,
`capacity` limits how many each sender takes, and `pruning` limits the logs. `schedule` decides when deliveries are
sent, and `signing` makes the headers that receivers verify. `client`, `network` and `addresses` send requests to public
addresses only, and read little of the answers.
"""
