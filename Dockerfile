# The service and its plugins; the database is elsewhere. Nothing in the last stage can build or install.
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BASE_IMAGE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements-build.lock ./
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement requirements-build.lock
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON=/opt/pointsman/bin/python
COPY requirements.lock ./
RUN /opt/build/bin/uv venv --python /usr/bin/python3 /opt/pointsman \
 && /opt/build/bin/uv pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY service ./service
COPY sql ./sql
COPY plugins ./plugins
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels \
    . ./plugins/folder ./plugins/forgejo ./plugins/github ./plugins/gitlab ./plugins/jira \
 && /opt/build/bin/uv pip install --no-deps --offline /wheels/*.whl

FROM base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pointsman
COPY --from=build /opt/pointsman /opt/pointsman
ENV PATH=/opt/pointsman/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POINTSMAN_LISTEN=0.0.0.0:8080 \
    POINTSMAN_LOG=json
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["pointsman"]
CMD ["serve"]
