"""The Django project: settings, routes and deployment of the service."""

__version__ = "0.1.0"
