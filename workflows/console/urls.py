"""Routes of the console."""

from django.urls import path

from workflows.console import views

app_name = "console"
urlpatterns = [
    path("", views.ConsoleView.as_view(), name="console"),
    path("login", views.SignInView.as_view(), name="login"),
    path("logout", views.SignOutView.as_view(), name="logout"),
]
