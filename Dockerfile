# syntax=docker/dockerfile:1
# Clickpath's images: docker build --target worker|trainer|triton .
#
# Bases are named by a tag and, where the build is given one, held by a digest:
#     docker build --target worker --build-arg PYTHON_DIGEST=sha256:... .
# Packages are those of requirements/*.txt, with their hashes. Nobody is root at run time, and nothing
# but /tmp is written to: run them with a read-only root.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG PYTHON_DIGEST=
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.10-py3
ARG TRITON_DIGEST=

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@}${PYTHON_DIGEST} AS base
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin clickpath && \
    install --directory --owner=clickpath --group=clickpath /archive /models /var/lib/clickpath
WORKDIR /app

# The environments have no pip: that of the base fills them from outside.
FROM base AS worker-packages
COPY requirements/worker.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv && \
    /usr/local/bin/python -m pip --python /venv install --no-deps --require-hashes \
        --only-binary :all: --requirement /requirements.txt

FROM base AS trainer-packages
COPY requirements/trainer.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv && \
    /usr/local/bin/python -m pip --python /venv install --no-deps --require-hashes \
        --only-binary :all: --requirement /requirements.txt

FROM base AS code
COPY clickpath clickpath
COPY serving serving
COPY stream stream
COPY training training
RUN python -m compileall -q /app

FROM base AS worker
COPY --from=worker-packages /venv /venv
COPY --from=code /app /app
USER 10001:10001
# The pages are for probes and Prometheus, which come from outside the container.
ENV CLICKPATH_WEB_HOST=0.0.0.0
EXPOSE 6066
HEALTHCHECK --interval=20s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('CLICKPATH_WEB_PORT', '6066') + '/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "clickpath"]
CMD ["worker"]

FROM base AS trainer
# LightGBM's wheel takes OpenMP from the system.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libgomp1 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=trainer-packages /venv /venv
COPY --from=code /app /app
USER 10001:10001
# Caches of matplotlib and of compiled kernels.
ENV XDG_CACHE_HOME=/tmp MPLCONFIGDIR=/tmp HF_HUB_OFFLINE=1
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "clickpath"]
CMD ["train", "--help"]

# Triton for CPUs: its Python backend runs the model in onnxruntime. GPUs need the base alone.
FROM ${TRITON_IMAGE}${TRITON_DIGEST:+@}${TRITON_DIGEST} AS triton
COPY requirements/triton-cpu.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --target /opt/clickpath --no-deps --require-hashes \
        --only-binary :all: --requirement /requirements.txt
ENV PYTHONPATH=/opt/clickpath
USER 1000:1000
HEALTHCHECK --interval=20s --timeout=5s --start-period=60s CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
CMD ["tritonserver", "--model-repository=/models/triton", "--model-control-mode=explicit", "--load-model=clickpath"]
