"""Clients of Pusher's protocol and of PieSocket v4, which have many channels on one connection."""
