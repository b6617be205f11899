# syntax=docker/dockerfile:1
# The bot and the GPU node agent are one image. tests/test_dockerfile.py replays these steps in a clean folder.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# The lock first: a change of ours does not download the libraries again.
COPY requirements.lock ./
RUN --mount=type=cache,target=/var/cache/pip python3 -m venv /opt/venv && /opt/venv/bin/pip install --cache-dir=/var/cache/pip --require-hashes --no-deps -r requirements.lock
# Compiled here, since the root file system is read-only when it runs; without it a start takes seconds longer.
RUN /opt/venv/bin/python -m compileall -q /opt/venv/lib

COPY bot bot
COPY runbooks runbooks
RUN /opt/venv/bin/python -m compileall -q bot

# Matches runAsUser in deploy/; no name is needed.
USER 10001:10001
ENTRYPOINT ["/opt/venv/bin/python", "-m", "bot"]
CMD ["run"]
