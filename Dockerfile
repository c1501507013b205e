# Two images from one file:  docker build --target api .   and   docker build --target worker .
# The api image leaves torch out (the web process never imports it): about 600 MB instead of several gigabytes.

FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 modescape && mkdir -p /var/lib/modescape /data && chown modescape /var/lib/modescape /data
WORKDIR /app
# What the server needs, by version and hash (`make lock`), so that a change of the code leaves this layer.
COPY locks locks
RUN pip install --require-hashes -r locks/server.txt
COPY pyproject.toml README.md ./
ENV MODESCAPE_HOME=/var/lib/modescape

FROM base AS source
COPY worker worker
COPY backend backend
COPY frontend frontend
COPY docs/science docs/science
COPY migrations migrations
RUN pip install --no-deps .

FROM source AS api
USER modescape
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"
CMD ["modescape", "serve"]

FROM base AS worker
# Which torch: empty for the one pip finds (CUDA on x86-64), or the address of an index with CPU wheels.
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r locks/torch.txt
COPY worker worker
COPY backend backend
COPY frontend frontend
COPY docs/science docs/science
COPY migrations migrations
RUN pip install --no-deps .
USER modescape
CMD ["modescape", "worker"]
