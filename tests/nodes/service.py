"""A service of three nodes with its own Redis and PostgreSQL, whose network links a test can cut."""

from contextlib import ExitStack
from pathlib import Path

from tests.faults import Link
from tests.servers import LiveServer, Postgres, Redis, Shell, environment, free_port, manage, server_command

NODES = (0, 1, 2)


class Service:
    """Three nodes, each with its own network links to Redis and to PostgreSQL.

    Args:
        directory: for the files of the nodes.
        stack: closes everything.
        settings: further settings of the nodes.
    """

    def __init__(self, directory: Path, stack: ExitStack, **settings: str) -> None:
        self._settings = settings
        self.redis = stack.enter_context(Redis(directory))
        self.postgres = stack.enter_context(Postgres())
        # Management commands bypass the links of the nodes.
        self.env = environment(directory, DATABASE_URL=self.postgres.url(), REDIS_URL=self.redis.url)
        manage(self.env, "migrate", "-v", "0")
        self._shell = Shell(self.env)
        stack.callback(self._shell.close)
        self.to_redis = [stack.enter_context(Link(self.redis.port)) for _ in NODES]
        self.to_postgres = [stack.enter_context(Link(self.postgres.port)) for _ in NODES]
        self.nodes = [self._start(directory, number) for number in NODES]

    def _start(self, directory: Path, number: int) -> LiveServer:
        own, port = directory / f"node{number}", free_port()
        own.mkdir()
        env = {
            "DATA_DIR": str(directory),
            "DATABASE_URL": self.postgres.url(self.to_postgres[number].port),
            "REDIS_URL": f"redis://127.0.0.1:{self.to_redis[number].port}/0",
            "KEY_CACHE_SECONDS": "1",  # so that cached keys expire while the database is down
            **self._settings,
        }
        node = LiveServer(own, server_command("serve", port, own), port, **env)
        node.start()
        return node

    def issue_key(self, cluster_id: str) -> tuple[str, str]:
        """Issue a key and return it with its secret; create the cluster and its account if they do not exist."""
        key, secret = self.shell(ISSUE.format(cluster_id=cluster_id)).split()
        return key, secret

    def revoke(self, key: str) -> None:
        self.shell(REVOKE.format(key=key))

    def recorded(self, cluster_id: str) -> int:
        """Return how many messages the database has recorded for the account of a cluster."""
        return int(self.shell(RECORDED.format(cluster_id=cluster_id)))

    def shell(self, program: str) -> str:
        """Run Python on the service's database and return what it prints."""
        return self._shell.run(program)


ISSUE = """
from accounts import services
from accounts.models import Cluster
cluster = Cluster.objects.filter(cluster_id="{cluster_id}").first()
cluster = cluster or services.create_cluster(services.create_account("{cluster_id}"), "{cluster_id}")
issued = services.issue_key(cluster, "key")
print(issued.key.public_key, issued.secret)
"""
REVOKE = """
from accounts import services
from accounts.models import ApiKey
services.revoke_key(ApiKey.objects.get(public_key="{key}"))
"""
RECORDED = """
from accounts.models import Cluster, DailyUsage
usage = DailyUsage.objects.filter(account_pk=Cluster.objects.get(cluster_id="{cluster_id}").account_id)
print(sum(usage.values_list("messages", flat=True)))
"""
