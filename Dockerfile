# The image of the web, worker and beat processes, and of the commands that run to their end.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/svops/.venv
COPY requirements.txt /tmp/
# Wheels only: nothing that a package brings is run at build time.
RUN /opt/svops/.venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt

FROM python:3.13-slim
ENV PATH=/opt/svops/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin svops
WORKDIR /opt/svops
# The environment stays where it was made, since its scripts name its path. Nothing here belongs to the user that
# runs it, so nothing that runs can change it.
COPY --from=build /opt/svops/.venv .venv
COPY manage.py ./
COPY svops svops
COPY accounts accounts
COPY workflows workflows
COPY notifications notifications
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["uvicorn", "svops.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--ws-per-message-deflate", "false", "--no-server-header", "--no-proxy-headers", "--timeout-graceful-shutdown", "20"]
