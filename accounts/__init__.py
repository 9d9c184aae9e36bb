"""The control plane: accounts with their people, clusters and API keys, which determine which clients may connect.

All changes go through `services`, which the admin, the REST API (`api`) and the commands share. `realtime` imports this
package, never the other way round.
"""
