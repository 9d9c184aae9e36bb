"""What tenants never learn, wherever they look: operators' addresses; and viewers the queries of webhooks' URLs."""

from typing import Any

import pytest
from django.core import mail
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from accounts.audit import entries_of
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Role, Webhook
from accounts.users import User
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result, exchange
from tests.console.conftest import As
from tests.console.tenants import Tenants
from tests.console.test_matrix import PATHS, TABLE, Route

OPERATOR, CREDENTIAL = "op-7f3a@example.com", "credential-7f3a"
REST = [
    "accounts/",
    "accounts/{account}/",
    "accounts/{account}/members/",
    "accounts/{account}/invitations/",
    "accounts/{account}/audit/",
    "accounts/{account}/refusals/",
    "accounts/{account}/usage/?unit=day",
    "clusters/",
    "clusters/{cluster}/",
    "keys/",
    "keys/{public_key}/",
    "webhooks/",
    "webhooks/{webhook}/",
    "webhooks/{webhook}/deliveries/",
    "webhooks/{webhook}/deliveries/{message_id}/",
]
MEMBERS = ("owner", "developer", "viewer")


@pytest.fixture
def operator(shops: Tenants) -> User:
    return User.objects.create_superuser(OPERATOR)


@pytest.fixture
def told(shops: Tenants, operator: User, settings: Settings) -> dict[str, Any]:
    """What the paths below contain, after an operator has changed everything by REST and in the admin."""
    settings.SENDS_MAIL = True
    account, cluster = Account.objects.get(pk=shops.shop.account), Cluster.objects.get(cluster_id="shop")
    rest, admin = APIClient(), Client()
    rest.force_authenticate(operator)
    admin.force_login(operator)

    def post(path: str, body: Any = None, method: str = "post") -> Any:
        answer = getattr(rest, method)(f"/api/v1/{path}", body, format="json")
        assert answer.status_code < 300, answer.content
        return answer.json() if answer.content else None

    url = f"https://example.com/hook?token={CREDENTIAL}"
    webhook = post("webhooks/", {"cluster": "shop", "url": url, "kinds": ["client_event"]})["id"]
    post(f"webhooks/{webhook}/", {"url": f"{url}2"}, "patch")
    post(f"webhooks/{webhook}/test/")
    (task,) = exchange([], []).tasks
    exchange([Result(task, AuditEntry.objects.latest("pk").at, Answer(None, 5, error="No answer."))], None)
    for path in ("suspend/", "resume/"):
        post(f"accounts/{account.pk}/{path}")
    post(f"accounts/{account.pk}/", {"max_keys": 50}, "patch")
    post(f"accounts/{account.pk}/invitations/", {"email": "new@example.com"})
    member = account.memberships.get(role=Role.VIEWER)
    post(f"accounts/{account.pk}/members/{member.pk}/", {"role": Role.DEVELOPER}, "patch")
    post(f"accounts/{account.pk}/members/{member.pk}/", {"role": Role.VIEWER}, "patch")
    keys = [post("keys/", {"cluster": "shop", "label": f"key {number}"})["public_key"] for number in range(2)]
    post(f"keys/{keys[0]}/", method="delete")
    revoked = ApiKey.objects.get(public_key=keys[1])
    answer = admin.post(f"/admin/accounts/apikey/{revoked.pk}/revoke/", {"confirmed": "yes"})
    assert answer.status_code == 302
    return {
        "account": account.pk,
        "cluster": cluster.pk,
        "public_key": keys[1],
        "key": revoked.pk,
        "webhook": webhook,
        "message_id": Webhook.objects.get(pk=webhook).deliveries.get().message_id,
    }


def content(answer: Any) -> str:
    parts = b"".join(answer) if answer.streaming else answer.content
    answer.close()
    return str(parts.decode())


def read_console(client: Client, route: Route, shops: Tenants, told: dict[str, Any]) -> str:
    """Return a page of the shop about the revoked key and the webhook."""
    tenant = shops.shop._replace(key=told["key"])
    query = "?show=revoked" if route.name == "cluster" else ""
    return content(client.get(route.path(shops.shop.account, tenant) + query))


def read_rest(role: str, path: str, shops: Tenants, told: dict[str, Any]) -> str:
    client = APIClient()
    client.force_authenticate(User.objects.get(pk=shops.people[role]))
    return content(client.get(f"/api/v1/{path.format(**told)}"))


@pytest.mark.parametrize("route", [route for route in PATHS if TABLE[route.name].get])
def test_no_page_of_the_console_names_an_operator(shops: Tenants, as_: As, told: dict[str, Any], route: Route) -> None:
    for role in MEMBERS:
        page = read_console(as_(role), route, shops, told)
        assert OPERATOR not in page, role
        assert role != "viewer" or CREDENTIAL not in page


@pytest.mark.parametrize("path", REST)
def test_no_answer_of_the_rest_api_names_an_operator(shops: Tenants, told: dict[str, Any], path: str) -> None:
    for role in MEMBERS:
        answer = read_rest(role, path, shops, told)
        assert role != "owner" or "detail" not in answer
        assert OPERATOR not in answer, role
        assert role != "viewer" or CREDENTIAL not in answer


@pytest.mark.parametrize("role", ["owner", "developer"])
def test_developers_see_the_whole_url_of_a_webhook(shops: Tenants, told: dict[str, Any], role: str) -> None:
    for path in ("webhooks/", "webhooks/{webhook}/"):
        assert f"?token={CREDENTIAL}2" in read_rest(role, path, shops, told)


def test_no_mail_names_an_operator(told: dict[str, Any], django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        operator = APIClient()
        operator.force_authenticate(User.objects.get(email=OPERATOR))
        path = f"/api/v1/accounts/{told['account']}/invitations/"
        assert operator.post(path, {"email": "another@example.com"}).status_code == 201
    (message,) = mail.outbox
    assert OPERATOR not in message.subject + message.body
    assert message.body.startswith("An operator of ")


def test_the_audit_of_a_webhook_has_no_query_but_says_that_it_has_changed(told: dict[str, Any]) -> None:
    webhook = Webhook.objects.get(pk=told["webhook"])
    changed = entries_of(webhook).get(verb="changed")
    assert changed.changes == {"url": ["https://example.com/hook", "https://example.com/hook (another query)"]}
    assert CREDENTIAL not in str(list(AuditEntry.objects.values()))


def test_operators_see_each_other_in_the_admin_and_by_rest(told: dict[str, Any], operator: User) -> None:
    client = APIClient()
    client.force_authenticate(operator)
    assert OPERATOR in content(client.get("/api/v1/audit/"))
    admin = Client()
    admin.force_login(operator)
    assert OPERATOR in content(admin.get("/admin/accounts/auditentry/"))


@pytest.mark.parametrize("path", ["", "leave/"])
def test_staff_who_belong_to_the_account_are_named_as_members(shops: Tenants, as_: As, path: str) -> None:
    account = Account.objects.get(pk=shops.shop.account)
    staff = User.objects.create_user("staff@example.com", is_staff=True, is_superuser=True)
    services.add_member(account, staff, Role.OWNER)
    client = Client()
    client.force_login(staff)
    page = client.post(
        f"/console/{account.pk}/people/leave/" if path else f"/console/{account.pk}/settings/", {"name": "New"}
    )
    assert page.status_code == 302
    assert AuditEntry.objects.latest("pk").by_operator is False
    assert "staff@example.com" in as_("viewer").get(f"/console/{account.pk}/activity/").content.decode()
