# The image of the web, worker and beat processes, and of the one-off commands.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --upgrade-deps /opt/svops/.venv
# requirements-ways.txt has the libraries of Google and AWS too: docs/airflows.md.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} /tmp/requirements.txt
# Wheels only: no code of a package runs at build time.
RUN /opt/svops/.venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt
COPY scripts/notices /tmp/
RUN /opt/svops/.venv/bin/python /tmp/notices /opt/svops/THIRD_PARTY_NOTICES
WORKDIR /opt/svops/app
COPY manage.py ./
COPY svops svops
COPY rest rest
COPY accounts accounts
COPY workflows workflows
COPY notifications notifications
COPY console console
# A checkout that was made with a umask of 077 has files that only its owner can read.
RUN chmod -R a+rX /opt/svops/app

FROM python:3.13-slim
ENV PATH=/opt/svops/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The copies of logs are in /tmp, which is memory in a container with a read-only file system.
ENV LOG_CACHE_BYTES=300000000 LOG_COPY_BYTES=100000000
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin svops
# A volume that is mounted here takes its owner over.
RUN install -d -o svops -g svops /var/lib/svops
WORKDIR /opt/svops
# The environment stays at its path, because its scripts contain that path. The user that runs the image owns no
# file here, so no process can change one.
COPY --from=build /opt/svops/.venv .venv
COPY --from=build /opt/svops/THIRD_PARTY_NOTICES ./
COPY --from=build /opt/svops/app ./
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "-m", "svops.server", "--host", "0.0.0.0", "--port", "8000", "--grace", "20"]
