# Two images: `riskwatch` (Airflow, MLflow and the product; the default) and `embedded-aws`. docker-compose.yaml builds both.
#
# Only the first stage has a compiler, which scikit-learn-extra needs. The tree stands in /opt/riskwatch as in a checkout.
# PYTHON_IMAGE takes an image by digest: docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /opt/riskwatch
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --group postgres --no-install-project --compile-bytecode
COPY cli cli
COPY dags dags
COPY expectations expectations
COPY infra infra
COPY lambda lambda
COPY local local
COPY ml ml
COPY plugins plugins
RUN uv sync --locked --no-dev --group postgres --compile-bytecode \
    && .venv/bin/python -m compileall -q cli dags expectations infra lambda local ml plugins

FROM ${PYTHON_IMAGE} AS build-embedded-aws
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /opt/riskwatch
COPY local/embedded-aws.txt local/embedded-aws.txt
RUN uv venv .venv-aws \
    && uv pip sync --require-hashes --only-binary :all: --compile-bytecode --python .venv-aws/bin/python local/embedded-aws.txt

FROM ${PYTHON_IMAGE} AS embedded-aws
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/riskwatch riskwatch \
    && install --directory --owner=riskwatch --group=riskwatch /var/lib/riskwatch /var/lib/riskwatch/aws
COPY --from=build-embedded-aws /opt/riskwatch /opt/riskwatch
COPY local/riskwatch_local/services/embedded_aws_server.py /opt/riskwatch/embedded_aws_server.py
ENV PATH=/opt/riskwatch/.venv-aws/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/riskwatch/aws
USER riskwatch
CMD ["python", "-I", "-u", "/opt/riskwatch/embedded_aws_server.py"]

FROM ${PYTHON_IMAGE} AS riskwatch
# A named volume takes owner and mode from the folder that it is mounted over.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/riskwatch riskwatch \
    && install --directory --owner=riskwatch --group=riskwatch /var/lib/riskwatch /var/lib/riskwatch/airflow \
        /var/lib/riskwatch/airflow/logs /var/lib/riskwatch/mlflow /var/lib/riskwatch/settings \
    && install --directory --mode=0700 --owner=riskwatch --group=riskwatch /var/lib/riskwatch/login
COPY --from=build /opt/riskwatch /opt/riskwatch
ENV PATH=/opt/riskwatch/.venv/bin:$PATH PYTHONUNBUFFERED=1
# Not the tree: MLflow would take the lock file there for that of a model.
WORKDIR /var/lib/riskwatch
USER riskwatch
CMD ["riskwatch", "--help"]
