"""Cookies that came over HTTPS go back over nothing else, and need no setting for it."""

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin


class SecureCookiesMiddleware(MiddlewareMixin):
    """Marks all cookies Secure in answers to requests that came over HTTPS.

    Behind a proxy that ends TLS, Daphne's --proxy-headers tell which did.
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response
