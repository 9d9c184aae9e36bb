"""The HTTP endpoints of the data plane: Cluster API, health, metrics, and plain HTTP requests to channel URLs.

They are ASGI applications that wrap Django, or Django views. Only the project's URLs and its ASGI application import
them.
"""
