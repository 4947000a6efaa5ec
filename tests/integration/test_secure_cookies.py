"""Cookies are Secure where the request came over HTTPS, and usable where it did not."""

import pytest
from django.test import Client

from tests.rest import PASSWORD, a_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("is_https", [True, False])
def test_cookies_of_a_login_are_as_secure_as_the_request(is_https: bool) -> None:
    a_user("olga", is_staff=True)
    client = Client()
    client.get("/admin/login/", secure=is_https)
    form = {"username": "olga", "password": PASSWORD}
    assert client.post("/admin/login/", form, secure=is_https).status_code == 302
    assert {name: bool(cookie["secure"]) for name, cookie in client.cookies.items()} == {
        "csrftoken": is_https,
        "sessionid": is_https,
    }
    assert client.cookies["sessionid"]["httponly"]
