"""The checks of the pushes: whether the plugin is in Airflow, which version, and whether what it sends arrives."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus

import redis
import requests
from django.conf import settings
from django.utils import timezone

from svops.doctor.airflow import Airflow
from svops.doctor.findings import Finding, Outcome, called, timed
from workflows import way_in
from workflows.airflow.errors import AirflowError
from workflows.naming import DEFAULT
from workflows.watch import arrivals
from workflows.watch.arrivals import LISTENER_VERSION

PART = "Listener"
PLUGIN = "svops_listener"
TIMEOUT = 10.0
# So many seconds a run may take to begin and to push.
PATIENCE = 60.0
POLL = 0.3
# Polling finds every change that no push brings, some seconds later.
WITHOUT = "Without pushes, changes are seen some seconds later."


def checks(name: str, airflow: Airflow | None, *, pushed_since: datetime | None) -> Iterator[Finding]:
    """Check the way of a push. `pushed_since` is when the run began whose push must have arrived since."""
    secret = way_in.ingest_secret(name)
    if not secret:
        found = f"{called('ingest_secret', name)} is not set, so pushes are off"
        yield _finding("pushes", Outcome.ABSENT, found, f"Set it here and in Airflow. {WITHOUT}")
        return
    yield accepts_pushes(name, secret, now=timezone.now())
    if airflow:
        yield from _installed(airflow)
    yield arrived(name, pushed_since, patience=PATIENCE)


def address_of(airflow: str) -> str:
    """Return where the listener of this Airflow pushes to."""
    url = settings.SVOPS_INGEST_URL
    return url if airflow == DEFAULT else f"{url.rstrip('/')}/{airflow}"


def accepts_pushes(airflow: str, secret: str, *, now: datetime) -> Finding:
    """Send a signed push without records, as the plugin would, to our own web process."""
    body = json.dumps({"records": [], "dropped": 0, "version": LISTENER_VERSION}).encode()
    sent_at = str(int(now.timestamp()))
    signature = hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256)
    headers = {
        "Content-Type": "application/json",
        "X-SVOps-Timestamp": sent_at,
        "X-SVOps-Signature": signature.hexdigest(),
    }
    url = address_of(airflow)
    with timed() as watch:
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False)
            status, error = answer.status_code, ""
        except requests.RequestException as exc:
            status, error = 0, type(exc).__name__
    if status == HTTPStatus.ACCEPTED:
        return _finding("SVOps takes pushes", Outcome.WORKS, url, ms=watch.ms)
    if status == HTTPStatus.UNAUTHORIZED:
        found, mend = "the signature is refused", f"Give the web process the same {called('ingest_secret', airflow)}."
    else:
        found = f"{url} does not take a push: {error or f'HTTP {status}'}"
        mend = "Start the web process, or set SVOPS_INGEST_URL to its address."
    return _finding("SVOps takes pushes", Outcome.WRONG, found, mend, ms=watch.ms)


def _installed(airflow: Airflow) -> Iterator[Finding]:
    try:
        names = airflow.client.probes.plugins()
    except AirflowError as exc:
        yield _finding("plugin installed", Outcome.UNTRIED, f"it is not known: {exc}")
        return
    if PLUGIN in names:
        yield _finding("plugin installed", Outcome.WORKS)
        return
    mend = f"Copy plugins/svops_listener.py into Airflow's plugins folder and restart it. {WITHOUT}"
    yield _finding("plugin installed", Outcome.WRONG, "Airflow has no plugin svops_listener", mend)


def arrived(airflow: str, since: datetime | None, *, patience: float) -> Finding:
    """Say when the last push arrived. After a run of our own that began at `since`, wait for one so many seconds."""
    try:
        last = _last(airflow, since, patience=patience)
    except redis.RedisError as exc:
        return _finding("pushes arrive", Outcome.UNTRIED, f"Redis does not answer: {type(exc).__name__}")
    if last is None or (since and last.at < since):
        found = f"no push came within {patience:g} s of the run" if since else "no push has arrived lately"
        where = "" if airflow == DEFAULT else f" (it ends with /{airflow})"
        mend = (
            f"Set SVOPS_INGEST_URL{where} and SVOPS_INGEST_SECRET for every process of Airflow; "
            "look for a firewall between."
        )
        outcome = Outcome.WRONG if since else Outcome.UNTRIED
        return _finding("pushes arrive", outcome, found, mend if since else f"--dag starts a run. {mend}")
    age = (timezone.now() - last.at).total_seconds()
    found = f"version {last.version}, the last one {age:.0f} s ago"
    if last.version != LISTENER_VERSION:
        mend = f"Copy plugins/svops_listener.py, version {LISTENER_VERSION}, into Airflow's plugins folder."
        return _finding("pushes arrive", Outcome.WRONG, found, mend)
    dropped = f"; that process has dropped {last.dropped} records" if last.dropped else ""
    return _finding("pushes arrive", Outcome.WORKS, f"{found}{dropped}")


def _last(airflow: str, since: datetime | None, *, patience: float) -> arrivals.Arrival | None:
    gives_up_at = time.monotonic() + patience
    while True:
        last = arrivals.last(airflow)
        if since is None or (last and last.at >= since) or time.monotonic() >= gives_up_at:
            return last
        time.sleep(POLL)


def _finding(check: str, outcome: Outcome, found: str = "", mend: str = "", *, ms: float | None = None) -> Finding:
    return Finding(part=PART, check=check, outcome=outcome, found=found, mend=mend, needed=False, ms=ms)
