"""The views of the management API. They show what the user can see, and change it through the services."""

from .. import schema  # noqa: F401  (registers itself)
