"""What must not be done again within some minutes."""

from realtime.cluster.recent_actions import CACHE_MISS, REQUEST, RecentActions


async def test_an_action_is_new_once_in_each_cluster_until_it_is_released() -> None:
    actions = RecentActions()
    assert [await actions.claim(REQUEST, cluster, "a") for cluster in (1, 1, 2)] == [True, False, True]
    await actions.release(REQUEST, 1, "a")
    assert [await actions.claim(REQUEST, cluster, "a") for cluster in (1, 2)] == [True, False]


async def test_each_kind_has_identifiers_of_its_own() -> None:
    actions = RecentActions()
    for identifier in ("pusher:cache-1", "cache_miss pusher:cache-1", "cache_miss:1:pusher:cache-1"):
        assert await actions.claim(REQUEST, 1, identifier)
    assert await actions.claim(CACHE_MISS, 1, "pusher:cache-1")
