"""Routes of the console."""

from django.urls import path

from console import account, single_sign_on, views

app_name = "console"
urlpatterns = [
    path("", views.ConsoleView.as_view(), name="console"),
    path("account", account.AccountView.as_view(), name="account"),
    path("login", views.SignInView.as_view(), name="login"),
    path("login/oidc", single_sign_on.StartView.as_view(), name="oidc"),
    path("login/oidc/callback", single_sign_on.CallbackView.as_view(), name="oidc-callback"),
    path("logout", views.SignOutView.as_view(), name="logout"),
]
