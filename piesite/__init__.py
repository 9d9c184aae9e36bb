"""The Django project: settings, routes and deployment of the service."""

import gc

__version__ = "0.1.0"

# By default, Python searches for reference cycles after every 700 new objects, and among all objects whenever their
# number has grown by a quarter. That took half of the CPU time of connecting, and more with more connections, although
# connections leave few cycles behind. It also took a tenth of the time to start, which is why this stands here.
gc.set_threshold(10_000, 10, 50)
