"""Who can sign up, what they get, and that nobody learns who else has signed up."""

import re
from email.message import EmailMessage
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from accounts import services
from accounts.models import Account, AuditEntry, Invitation, Role
from accounts.users import User
from tests.console.hashers import CountingHasher

pytestmark = pytest.mark.django_db

PATH = "/console/you/sign-up/"
PASSWORD = "correct-horse-battery"
Commit = DjangoCaptureOnCommitCallbacks


@pytest.fixture
def sends_mail(settings: Settings) -> None:
    settings.SENDS_MAIL = True
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    settings.ACCOUNT_EMAIL_NOTIFICATIONS = True
    settings.MFA_ALLOW_UNVERIFIED_EMAIL = False


@pytest.fixture
def is_open(settings: Settings) -> None:
    settings.SIGN_UP = "open"


def sign_up(client: Client, email: str = "dev@example.com", **form: str) -> Any:
    return client.post(PATH, {"email": email, "password1": PASSWORD, **form})


def link_in(message: EmailMessage | Any) -> str:
    found = re.search(r"https?://testserver(/\S+)", message.body)
    assert found
    return found[1]


def user_of(client: Client) -> User | None:
    pk = client.session.get("_auth_user_id")
    return User.objects.get(pk=pk) if pk else None


class TestModes:
    @pytest.mark.parametrize("mode", ["invited", "closed"])
    def test_without_an_invitation_nobody_signs_up(self, client: Client, settings: Settings, mode: str) -> None:
        settings.SIGN_UP = mode
        for answer in (client.get(PATH), sign_up(client)):
            assert "You need an invitation" in answer.content.decode()
        assert not User.objects.exists()

    def test_if_sign_up_is_closed_only_users_can_accept_an_invitation(
        self, client: Client, settings: Settings, account: Account, django_capture_on_commit_callbacks: Commit
    ) -> None:
        settings.SIGN_UP = "closed"
        link = invite(client, account, django_capture_on_commit_callbacks)
        assert "Sign up" not in client.get(link).content.decode()
        sign_up(client, next=link)
        assert not User.objects.filter(email="dev@example.com").exists()

    def test_an_invited_person_signs_up_with_the_invited_address_only(
        self, client: Client, account: Account, django_capture_on_commit_callbacks: Commit
    ) -> None:
        link = invite(client, account, django_capture_on_commit_callbacks)
        assert "Sign up" in client.get(link).content.decode()
        answer = sign_up(client, "other@example.com", next=link)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")
        user = User.objects.get(email="dev@example.com")
        assert user_of(client) == user
        assert [(member.account, member.role) for member in user.memberships.all()] == [(account, Role.DEVELOPER)]
        assert not Account.objects.filter(creator=user).exists()
        assert not Invitation.objects.exists()
        assert client.get(link).status_code == 404


def invite(client: Client, account: Account, callbacks: Commit, email: str = "dev@example.com") -> str:
    """Invite somebody through the REST API, and return the path of the link that they get."""
    owner = Client()
    owner.force_login(User.objects.get(email="owner@shop.example"))
    with callbacks(execute=True):
        answer = owner.post(
            f"/api/v1/accounts/{account.pk}/invitations/",
            {"email": email, "role": "developer"},
            content_type="application/json",
        )
    link = answer.json()["link"]
    return str(link.removeprefix("http://testserver")) if link else link_in(mail.outbox.pop())


@pytest.mark.usefixtures("is_open")
class TestWithoutMail:
    def test_a_person_who_signs_up_owns_an_account(self, client: Client) -> None:
        answer = sign_up(client, "Dev@Example.com")
        assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")
        user = User.objects.get()
        assert (user_of(client), user.email) == (user, "dev@example.com")
        account = Account.objects.get()
        assert (account.name, account.creator) == ("dev", user)
        assert user.memberships.get().role == Role.OWNER
        assert mail.outbox == []

    def test_where_only_operators_create_accounts_the_person_has_none(self, client: Client, settings: Settings) -> None:
        settings.ACCOUNTS_PER_PERSON = 0
        sign_up(client)
        assert not Account.objects.exists()
        assert "You do not belong to an account yet" in client.get("/console/", follow=True).content.decode()

    def test_the_address_is_not_taken_for_verified(
        self, client: Client, account: Account, django_capture_on_commit_callbacks: Commit
    ) -> None:
        link = invite(client, account, django_capture_on_commit_callbacks)
        sign_up(client)
        assert client.get("/api/v1/invitations/").json()["results"] == []
        pk = Invitation.objects.get().pk
        assert client.post(f"/api/v1/invitations/{pk}/accept/").status_code == 404
        assert client.post(link, {"answer": "accept"}).status_code == 302
        assert user_of(client).memberships.filter(account=account).exists()  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("form", "sentence"),
        [
            ({"email": "owner@shop.example"}, "A user with this e-mail address already exists."),
            ({"email": "OWNER@shop.example"}, "A user with this e-mail address already exists."),
            ({"email": "no-address"}, "Enter a valid email address."),
            ({"email": "a\0@example.com"}, "Null characters are not allowed."),
            ({"email": f"{'x' * 250}@example.com"}, "at most 254 characters"),
            ({"password1": "short"}, "This password is too short."),
            ({"password1": "12345678"}, "This password is entirely numeric."),
            ({"password1": "dev@example.com"}, "The password is too similar"),
            ({"password1": ""}, "This field is required."),
        ],
    )
    @pytest.mark.usefixtures("shops")
    def test_wrong_input_is_explained_and_creates_nobody(
        self, client: Client, form: dict[str, str], sentence: str
    ) -> None:
        before = User.objects.count()
        answer = sign_up(client, **{"email": "dev@example.com", **form})
        assert (answer.status_code, User.objects.count()) == (200, before)
        assert sentence in answer.content.decode().replace("&#x27;", "'")

    def test_one_network_signs_up_twenty_times_an_hour(self, client: Client) -> None:
        for number in range(20):
            sign_up(Client(), f"dev-{number}@example.com")
        assert "Too many attempts. Try again in 60 minutes." in sign_up(client).content.decode()
        assert User.objects.count() == 20
        client.post(PATH, {"email": "dev@example.com", "password1": PASSWORD}, REMOTE_ADDR="192.0.2.1")
        assert User.objects.count() == 21

    def test_it_is_recorded_without_the_password(self, client: Client) -> None:
        sign_up(client)
        entry = AuditEntry.objects.get(kind="user")
        assert (entry.verb, entry.source, entry.name, entry.account_pk) == (
            "created",
            "console",
            "dev@example.com",
            None,
        )
        assert PASSWORD not in str(AuditEntry.objects.values())


@pytest.mark.usefixtures("is_open", "sends_mail")
class TestWithMail:
    def test_the_account_begins_with_the_link_in_the_mail(self, client: Client) -> None:
        answer = sign_up(client)
        assert answer.headers["Location"] == "/console/you/sign-up/sent/"
        assert user_of(client) is None
        assert not Account.objects.exists()
        (message,) = mail.outbox
        assert message.to == ["dev@example.com"]
        link = link_in(message)
        assert client.get(link).status_code == 200
        assert not User.objects.get().has_verified_address()
        answer = client.post(link)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")
        assert user_of(client) == User.objects.get()
        assert Account.objects.get().name == "dev"

    def test_the_link_works_once_and_in_another_browser(self, client: Client) -> None:
        sign_up(client)
        link = link_in(mail.outbox[0])
        other = Client()
        assert other.post(link).headers["Location"] == "/console/you/login/"
        assert Account.objects.count() == 1
        assert "not valid any more" in other.get(link).content.decode()
        assert other.post(link).status_code == 404
        assert Account.objects.count() == 1

    def test_before_that_the_person_cannot_log_in(self, client: Client) -> None:
        sign_up(client)
        other = Client()
        answer = other.post("/console/you/login/", {"login": "dev@example.com", "password": PASSWORD})
        assert answer.headers["Location"] == "/console/you/sign-up/sent/"
        assert user_of(other) is None

    @pytest.mark.usefixtures("shops")
    def test_known_and_unknown_addresses_get_the_same_answer(self) -> None:
        answers = [sign_up(Client(), email) for email in ("new@example.com", "owner@shop.example")]
        assert answers[0].status_code == answers[1].status_code == 302
        assert answers[0].headers["Location"] == answers[1].headers["Location"]
        assert [message.to for message in mail.outbox] == [["new@example.com"], ["owner@shop.example"]]
        assert "already signed up" in mail.outbox[1].subject
        assert User.objects.get(email="owner@shop.example").check_password("owner-password")

    def test_known_and_unknown_addresses_take_the_same_time(self, settings: Settings) -> None:
        settings.PASSWORD_HASHERS = ["tests.console.hashers.CountingHasher"]
        User.objects.create_user("known@example.com", PASSWORD)
        counts = []
        for email in ("new@example.com", "known@example.com"):
            before = CountingHasher.hashed
            sign_up(Client(), email)
            counts.append(CountingHasher.hashed - before)
        assert counts == [1, 1]

    def test_an_address_gets_five_mails_an_hour(self) -> None:
        for _ in range(8):
            assert sign_up(Client()).headers["Location"] == "/console/you/sign-up/sent/"
        assert len(mail.outbox) <= 6

    def test_an_invited_person_needs_no_second_mail(
        self, client: Client, account: Account, django_capture_on_commit_callbacks: Commit
    ) -> None:
        link = invite(client, account, django_capture_on_commit_callbacks)
        assert mail.outbox == []
        assert sign_up(client, next=link).headers["Location"] == "/console/"
        user = user_of(client)
        assert user is not None
        assert user.has_verified_address()
        assert user.memberships.get().account == account
        assert mail.outbox == []

    def test_a_person_made_by_an_operator_needs_no_mail_at_all(self, client: Client, settings: Settings) -> None:
        User.objects.create_user("made@example.com", PASSWORD)
        client.post("/console/you/login/", {"login": "made@example.com", "password": PASSWORD})
        assert user_of(client) is not None
        assert mail.outbox == []
        assert not Account.objects.exists()


def test_the_address_of_a_user_and_of_allauth_change_together(admin_client: Client) -> None:
    user: Any = User.objects.create_user("old@example.com", PASSWORD)
    form = {"email": "New@Example.com", "name": "", "is_active": "on"}
    assert admin_client.post(f"/admin/accounts/user/{user.pk}/change/", form).status_code == 302
    assert list(user.emailaddress_set.values_list("email", "primary", "verified")) == [("new@example.com", True, True)]


def test_an_account_of_a_person_who_signed_up_is_like_any_other(client: Client, settings: Settings) -> None:
    settings.SIGN_UP = "open"
    sign_up(client)
    services.create_cluster(Account.objects.get(), "mine")
    with pytest.raises(services.NotAllowed):
        services.create_own_account(User.objects.get(), "second")
