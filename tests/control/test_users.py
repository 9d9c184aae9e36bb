"""Users log in with their e-mail address, which is stored in lower case however it is typed."""

import io
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.db.models import F, Value
from django.test import Client

from accounts import services
from accounts.models import Account, AuditEntry
from accounts.users import MAX_EMAIL_LENGTH, User

pytestmark = pytest.mark.django_db
TYPED, STORED = " Ada@Example.COM", "ada@example.com"
PASSWORD = "correct-horse-battery"


def stored() -> list[str]:
    return list(User.objects.values_list("email", flat=True))


class TestLowerCase:
    def test_by_the_manager(self) -> None:
        assert User.objects.create_user(TYPED).email == STORED
        assert stored() == [STORED]

    def test_by_save(self) -> None:
        user = User(email=TYPED)
        user.save()
        assert (user.email, stored()) == (STORED, [STORED])

    def test_by_validation(self) -> None:
        user = User(email="Ada@Example.COM", password="x")
        user.full_clean()
        assert user.email == STORED

    def test_in_bulk(self) -> None:
        User.objects.bulk_create([User(email=TYPED)])
        assert stored() == [STORED]
        User.objects.update(email="B@Example.com")
        assert stored() == ["b@example.com"]

    def test_an_address_that_an_expression_computes_is_saved_as_it_is(self) -> None:
        user = User.objects.create_user(STORED)
        user.email = F("email")  # type: ignore[assignment]
        user.save()
        assert stored() == [STORED]

    def test_the_database_rejects_any_other(self) -> None:
        User.objects.create_user(STORED)
        with pytest.raises(IntegrityError, match="user_email_is_lower_case"), transaction.atomic():
            User.objects.update(email=Value("Ada@example.com"))

    def test_lookups(self) -> None:
        user = User.objects.create_user(STORED)
        assert User.objects.get_by_natural_key(TYPED) == user
        assert User.objects.get(email=TYPED) == user
        assert User.objects.filter(email__in=[TYPED]).exists()

    def test_another_spelling_is_not_another_user(self) -> None:
        User.objects.create_user(STORED)
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create_user(TYPED)
        with pytest.raises(ValidationError, match="A user with this e-mail address already exists"):
            User(email="ADA@example.com", password="x").full_clean()


def test_a_user_needs_an_address() -> None:
    with pytest.raises(ValueError, match="A user needs an e-mail address"):
        User.objects.create_user("")


class TestLogin:
    @pytest.fixture(autouse=True)
    def ada(self) -> User:
        return User.objects.create_superuser(STORED, PASSWORD)

    def test_in_the_console(self, client: Client) -> None:
        page = client.get("/console/you/login/").content.decode()
        assert "E-mail address" in page
        answer = client.post("/console/you/login/", {"login": TYPED, "password": PASSWORD})
        assert answer.status_code == 302

    def test_in_the_rest_api(self, client: Client) -> None:
        form = {"email": TYPED, "password": PASSWORD}
        assert client.post("/api/v1/token/", form, content_type="application/json").status_code == 200

    @pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!"}])
    def test_all_failed_logins_get_the_same_answer(self, client: Client, change: dict[str, Any]) -> None:
        User.objects.update(**change)
        page = client.post("/console/you/login/", {"login": STORED, "password": PASSWORD}).content.decode()
        assert "The e-mail address or the password is wrong." in page


class TestCreatesuperuser:
    def test_with_a_password_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
        call_command("createsuperuser", "--noinput", "--email", "Ada@Example.com", verbosity=0)
        user = User.objects.get()
        assert (user.email, user.is_superuser, user.is_staff, user.is_active) == (STORED, True, True, True)
        assert user.check_password(PASSWORD)

    def test_a_taken_address_is_rejected(self) -> None:
        User.objects.create_user(STORED)
        with pytest.raises(CommandError, match="already taken"):
            call_command("createsuperuser", "--noinput", "--email", "ADA@example.com", verbosity=0)

    def test_it_prompts_only_for_the_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("getpass.getpass", lambda *_: PASSWORD)
        call_command("createsuperuser", "--email", STORED, verbosity=0, stdin=Terminal())
        assert User.objects.get().check_password(PASSWORD)


class TestAdmin:
    ADD = "/admin/accounts/user/add/"

    def test_a_user_is_added_with_an_address_and_a_password(self, admin_client: Client) -> None:
        form = {"email": TYPED, "name": "Ada", "password1": PASSWORD, "password2": PASSWORD}
        assert admin_client.post(self.ADD, form).status_code == 302
        user = User.objects.get(email=STORED)
        assert (user.name, user.is_staff, user.is_superuser) == ("Ada", False, False)
        assert user.check_password(PASSWORD)

    @pytest.mark.parametrize(
        ("changed", "sentence"),
        [
            ({"email": "ADMIN@example.com"}, "A user with this e-mail address already exists."),
            ({"email": "ada"}, "Enter a valid email address."),
            ({"email": ""}, "This field is required."),
            ({"password2": "another-password"}, "The two password fields didn"),
            ({"password1": STORED, "password2": STORED}, "The password is too similar to the e-mail address."),
        ],
    )
    def test_a_user_with_invalid_data_is_not_added(
        self, admin_client: Client, changed: dict[str, str], sentence: str
    ) -> None:
        form = {"email": STORED, "password1": PASSWORD, "password2": PASSWORD, **changed}
        assert sentence in admin_client.post(self.ADD, form).content.decode()
        assert User.objects.count() == 1

    def test_a_user_is_changed(self, admin_client: Client) -> None:
        user = User.objects.create_user(STORED, PASSWORD)
        path = f"/admin/accounts/user/{user.pk}/change/"
        assert STORED in admin_client.get(path).content.decode()
        form = {"email": "Ada@Example.org", "name": "Ada", "is_active": "on"}
        assert admin_client.post(path, form).status_code == 302
        user.refresh_from_db()
        assert (user.email, user.name, user.is_active) == ("ada@example.org", "Ada", True)
        assert user.check_password(PASSWORD)

    def test_a_password_is_set(self, admin_client: Client) -> None:
        user = User.objects.create_user(STORED)
        form = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true", "set-password": ""}
        assert admin_client.post(f"/admin/accounts/user/{user.pk}/password/", form).status_code == 302
        user.refresh_from_db()
        assert user.check_password(PASSWORD)

    @pytest.mark.parametrize(("query", "found"), [("ada@", 1), ("Lovelace", 1), ("EXAMPLE.com", 2), ("bob", 0)])
    def test_users_can_be_searched_by_address_and_name(self, admin_client: Client, query: str, found: int) -> None:
        User.objects.create_user(STORED, name="Ada Lovelace")
        page = admin_client.get("/admin/accounts/user/", {"q": query}).content.decode()
        assert page.count('class="action-select"') == found


def test_the_longest_address_fits_into_the_audit_trail(account: Account) -> None:
    email = f"{'a' * 64}@{'b' * (MAX_EMAIL_LENGTH - 69)}.com"
    membership = services.add_member(account, User.objects.create_user(email))
    entry = AuditEntry.objects.latest("pk")
    assert (entry.name, entry.label) == (email, str(membership))
    entry.full_clean()
