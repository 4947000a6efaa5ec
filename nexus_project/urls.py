"""Where everything is: the API, its description, and the admin."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from executions.api.errors import unknown_path
from nexus_project.metrics import MetricsView

admin.site.site_header = admin.site.site_title = "Nexus"
admin.site.index_title = "What the workflows are doing"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("executions.api.urls")),
    path("api/v1/", include("executions.temporal.urls")),
    path("api/v1/", include("streaming.urls")),
    path("metrics", MetricsView.as_view()),
    re_path(r"^api(/.*)?$", unknown_path),
]

handler400 = "executions.api.errors.bad_request"
handler404 = "executions.api.errors.page_not_found"
handler500 = "executions.api.errors.server_error"
