"""Rights in the admin: an account keeps an owner, only superusers raise rights, and searches reveal nothing."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.test import Client

from accounts import services
from accounts.models import Account, ApiKey, Membership, Role, Webhook
from accounts.tokens import create_token
from accounts.users import User

pytestmark = pytest.mark.django_db
USERS = "/admin/accounts/user/"


@pytest.fixture
def operator(client: Client) -> User:
    """Staff with all permissions for users and groups, who is logged in as `client` but is not a superuser."""
    operator = User.objects.create_user("operator@example.com", is_staff=True)
    models = ["user", "group"]
    operator.user_permissions.set(Permission.objects.filter(content_type__model__in=models))
    client.force_login(operator)
    return operator


class TestLastOwner:
    def test_the_admin_does_not_delete_them(self, admin_client: Client, account: Account, owner: User) -> None:
        single = admin_client.post(f"{USERS}{owner.pk}/delete/", {"post": "yes"})
        form = {"action": "delete_selected", "_selected_action": [owner.pk], "post": "yes"}
        bulk = admin_client.post(USERS, form, follow=True)
        for answer in (single, bulk):
            assert b"protected" in answer.content or b"only active owner" in answer.content
        assert User.objects.filter(pk=owner.pk).exists()
        assert account.memberships.filter(user=owner).exists()

    def test_the_admin_does_not_deactivate_them(self, admin_client: Client, account: Account, owner: User) -> None:
        page = admin_client.post(f"{USERS}{owner.pk}/change/", {"email": owner.email, "name": "New"})
        assert "This user is the only active owner of an account." in page.content.decode()
        owner.refresh_from_db()
        assert (owner.is_active, owner.name) == (True, "")

    def test_neither_does_anything_else(self, account: Account, owner: User, teammate: User) -> None:
        with pytest.raises(ProtectedError):
            owner.delete()
        with pytest.raises(ProtectedError):
            User.objects.all().delete()
        with pytest.raises(ValidationError, match="only active owner"):
            services.delete_user(owner)
        owner.is_active = False
        with pytest.raises(ValidationError, match="only active owner"):
            owner.save()
        assert User.objects.filter(is_active=True).count() == 2

    def test_an_owner_who_cannot_log_in_is_none(self, account: Account, owner: User, teammate: User) -> None:
        other = account.memberships.get(user=teammate)
        services.set_role(other, Role.OWNER)
        teammate.is_active = False
        teammate.save()
        own = account.memberships.get(user=owner)
        for change in (
            lambda: services.remove_member(own),
            lambda: services.set_role(own, Role.VIEWER),
            lambda: services.delete_user(owner),
        ):
            with pytest.raises(ValidationError):
                change()
        teammate.name = "Still inactive"
        teammate.save()
        services.delete_user(teammate)
        assert list(Membership.objects.all()) == [own]

    def test_with_another_owner_they_can_go(
        self, admin_client: Client, account: Account, owner: User, teammate: User
    ) -> None:
        services.set_role(account.memberships.get(user=teammate), Role.OWNER)
        form = {"action": "delete_selected", "_selected_action": [owner.pk], "post": "yes"}
        assert admin_client.post(USERS, form).status_code == 302
        assert [member.user for member in account.memberships.all()] == [teammate]

    def test_people_without_an_account_can_go(self, admin_client: Client, account: Account, stranger: User) -> None:
        assert admin_client.post(f"{USERS}{stranger.pk}/change/", {"email": stranger.email}).status_code == 302
        assert not User.objects.get(pk=stranger.pk).is_active
        assert admin_client.post(f"{USERS}{stranger.pk}/delete/", {"post": "yes"}).status_code == 302
        assert not User.objects.filter(pk=stranger.pk).exists()


class TestOnlySuperusersRaiseRights:
    def test_nobody_else_makes_a_superuser(self, client: Client, operator: User, stranger: User) -> None:
        group = Group.objects.create(name="operators")
        form: dict[str, Any] = {
            "email": stranger.email,
            "name": "Renamed",
            "is_active": "on",
            "is_staff": "on",
            "is_superuser": "on",
            "groups": [group.pk],
            "user_permissions": [Permission.objects.get(codename="add_account").pk],
        }
        assert client.post(f"{USERS}{stranger.pk}/change/", form).status_code == 302
        stranger.refresh_from_db()
        assert (stranger.name, stranger.is_staff, stranger.is_superuser) == ("Renamed", False, False)
        assert not (stranger.groups.exists())
        assert not (stranger.user_permissions.exists())

    @pytest.mark.parametrize("who", ["superuser", "staff", "in a group", "themselves"])
    def test_nobody_else_takes_over_the_login_of_a_user_with_rights(
        self, client: Client, operator: User, stranger: User, who: str
    ) -> None:
        target = operator if who == "themselves" else stranger
        target.is_superuser, target.is_staff = who == "superuser", who in ("staff", "themselves")
        target.set_password("before")
        target.save()
        if who == "in a group":
            target.groups.add(Group.objects.create(name="operators"))
        client.force_login(operator)
        path = f"{USERS}{target.pk}/"
        password = {"password1": "taken-over-1", "password2": "taken-over-1", "usable_password": "true"}
        answers = [
            client.post(f"{path}change/", {"email": "mine@example.com", "is_active": "on"}),
            client.post(f"{path}password/", password),
            client.post(f"{path}delete/", {"post": "yes"}),
        ]
        assert [answer.status_code for answer in answers] == [403, 403, 403]
        client.post(USERS, {"action": "delete_selected", "_selected_action": [target.pk], "post": "yes"})
        found = User.objects.get(pk=target.pk)
        assert (found.email, found.check_password("before")) == (target.email, True)

    def test_nobody_else_changes_groups(self, client: Client, operator: User) -> None:
        group = Group.objects.create(name="operators")
        operator.groups.add(group)
        permission = Permission.objects.get(codename="delete_account")
        form = {"name": "operators", "permissions": [permission.pk]}
        paths = [f"/admin/auth/group/{group.pk}/change/", "/admin/auth/group/add/"]
        assert [client.post(path, form).status_code for path in paths] == [403, 403]
        assert not group.permissions.exists()

    def test_superusers_do(self, admin_client: Client, stranger: User) -> None:
        form = {"email": stranger.email, "is_active": "on", "is_staff": "on", "is_superuser": "on"}
        assert admin_client.post(f"{USERS}{stranger.pk}/change/", form).status_code == 302
        stranger.refresh_from_db()
        assert (stranger.is_staff, stranger.is_superuser) == (True, True)


class TestSearches:
    def found(self, client: Client, model: str, query: str) -> int:
        page = client.get(f"/admin/accounts/{model}/", {"q": query})
        assert page.status_code == 200
        return int(page.context["cl"].result_count)

    def with_permissions(self, client: Client, *names: str) -> None:
        viewer = User.objects.create_user("viewer@example.com", is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename__in=[f"view_{name}" for name in names]))
        client.force_login(viewer)

    def test_an_address_is_found_only_with_the_permission_to_see_people(self, client: Client, account: Account) -> None:
        self.with_permissions(client, "account", "cluster")
        assert [self.found(client, "account", query) for query in ("owner@", "Acme")] == [0, 1]
        client.logout()
        User.objects.get(email="viewer@example.com").delete()
        self.with_permissions(client, "account", "user")
        assert self.found(client, "account", "owner@") == 1

    def test_the_name_of_an_account_is_found_only_with_the_permission_to_see_it(
        self, client: Client, key: ApiKey
    ) -> None:
        services.rename_account(key.cluster.account, "Hidden")
        self.with_permissions(client, "apikey", "cluster")
        assert [self.found(client, model, "Hidden") for model in ("apikey", "cluster")] == [0, 0]
        assert [self.found(client, model, "acme") for model in ("apikey", "cluster")] == [1, 1]

    @pytest.mark.parametrize("model", ["webhook", "invitation"])
    def test_so_is_that_of_a_webhook_and_of_an_invitation(self, client: Client, webhook: Webhook, model: str) -> None:
        services.rename_account(webhook.cluster.account, "Hidden")
        services.invite(webhook.cluster.account, "example@example.com")
        self.with_permissions(client, model)
        assert [self.found(client, model, query) for query in ("Hidden", "example")] == [0, 1]

    def test_whose_a_token_is_can_be_searched_only_with_the_permission_to_see_people(
        self, client: Client, owner: User
    ) -> None:
        create_token(owner)
        self.with_permissions(client, "apitoken")
        assert self.found(client, "apitoken", "owner@") == self.found(client, "apitoken", "nobody@")

    def test_a_password_cannot_be_found_by_filtering(self, client: Client, operator: User) -> None:
        for lookup in ("", "__startswith", "__gt"):
            assert client.get(f"{USERS}?password{lookup}=a").status_code == 400

    def test_an_encrypted_secret_cannot_be_found_by_filtering(self, admin_client: Client, key: ApiKey) -> None:
        for lookup in ("", "__startswith", "__gt"):
            path = f"/admin/accounts/apikey/?secret_ciphertext{lookup}=a"
            assert admin_client.get(path).status_code == 400
