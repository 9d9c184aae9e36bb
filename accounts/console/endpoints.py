"""The addresses of clusters and of the Cluster API, as a client of the page reaches them."""

from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest

from accounts.models import ApiKey


class Site(NamedTuple):
    """How this service is reached."""

    domain: str
    """The domain of all clusters."""
    port: str
    """Such as ":8000"; empty for the scheme's own port."""
    is_secure: bool

    def host(self, cluster_id: str) -> str:
        """Return the host of a cluster, such as "shop.ws.example.com"."""
        return f"{cluster_id}.{self.domain}{self.port}"

    def channels(self, cluster_id: str) -> str:
        """Return the URL in which all channels of a cluster begin."""
        return f"{self._socket_scheme}://{self.host(cluster_id)}/v3/"

    def channel(self, key: ApiKey, channel: str, *, version: int = 3, resolvable: bool = False) -> str:
        """Return the URL of a channel for the clients of a key.

        Args:
            key: the key.
            channel: the ID of the channel.
            version: the version of PieSocket's protocol.
            resolvable: whether the URL is for programs other than browsers, which cannot resolve `*.localhost`. The key
                determines the cluster too.
        """
        host = self._root if resolvable and self._is_local else self.host(key.cluster.cluster_id)
        return f"{self._socket_scheme}://{host}/v{version}/{channel}?api_key={key.public_key}"

    @property
    def api_url(self) -> str:
        """The URL in which those of the Cluster API begin."""
        return f"{'https' if self.is_secure else 'http'}://{self._root}/api/"

    @property
    def api_host(self) -> str:
        """The host with which Pusher's libraries call this service. The API key determines the cluster."""
        return "localhost" if self._is_local else self.domain

    @property
    def api_port(self) -> int:
        """The port for these libraries."""
        return int(self.port.removeprefix(":") or (443 if self.is_secure else 80))

    @property
    def _socket_scheme(self) -> str:
        return "wss" if self.is_secure else "ws"

    @property
    def _is_local(self) -> bool:
        return self.domain == "localhost" or self.domain.endswith(".localhost")

    @property
    def _root(self) -> str:
        return f"{self.api_host}{self.port}"


def site_of(request: HttpRequest) -> Site:
    """Return how the client of a request reaches this service. Behind a proxy, this process listens on another port."""
    host = urlsplit(f"//{request.get_host()}")
    domains = settings.CLUSTER_DOMAINS
    domain = host.hostname if host.hostname in domains else domains[0]
    return Site(str(domain), f":{host.port}" if host.port else "", request.is_secure())
