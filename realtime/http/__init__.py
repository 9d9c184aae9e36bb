"""The HTTP doors beside Django's pages and REST API: Cluster API, health, metrics, and what a channel's URL answers.

They are ASGI applications wrapped around Django, or its views. Only the project's URLs and its ASGI application import
them.
"""
