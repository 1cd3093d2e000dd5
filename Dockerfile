# Two images from one file. `product`: API, dispatcher, worker of the cpu queue, migrations; no torch.
# `models`: the worker of the gpu queue, and vLLM.
#   docker build --target product .
#   docker build --target models --build-arg EXTRA=gpu .
# What is installed, with which hashes: docker/requirements, made by `make locks` from pyproject.toml. PYTHON_IMAGE may
# name the image by its digest, or one of your own.

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
# HOME: what libraries keep for themselves goes where a read-only container can write, and ends with it.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PATH=/srv/steerwise/bin:$PATH
RUN groupadd --gid 10001 steerwise \
    && useradd --uid 10001 --gid steerwise --home-dir /var/lib/steerwise --no-create-home steerwise \
    && install --directory --owner=steerwise --group=steerwise --mode=0700 /var/lib/steerwise
WORKDIR /var/lib/steerwise
ENTRYPOINT ["steerwise"]

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/srv/steerwise/bin:$PATH
RUN python -m venv /srv/steerwise
WORKDIR /build

# --no-deps: the file is complete, and leaves out on purpose what nothing here uses.
FROM build AS product-build
COPY docker/requirements/product.txt .
RUN pip install --require-hashes --no-deps --only-binary :all: --requirement product.txt
COPY . source
RUN pip install --no-index --no-deps --no-build-isolation ./source

FROM build AS models-build
# cpu or gpu. Where pip finds no CPU build of torch, PIP_EXTRA_INDEX_URL names PyTorch's own index of them.
ARG EXTRA=cpu
ARG PIP_EXTRA_INDEX_URL=
COPY docker/requirements/models-${EXTRA}.txt .
RUN pip install --require-hashes --no-deps --only-binary :all: --requirement "models-${EXTRA}.txt"
COPY . source
RUN pip install --no-index --no-deps --no-build-isolation ./source

FROM base AS product
COPY --from=product-build /srv/steerwise /srv/steerwise
USER 10001:10001

FROM base AS models
# vLLM compiles small pieces while it starts. Debian keeps the newest version of a package alone, so none is named.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=models-build /srv/steerwise /srv/steerwise
USER 10001:10001
