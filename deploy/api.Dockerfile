# The control plane: API, dashboard, migrations. No torch, no trainer.
FROM node:22-slim AS assets
WORKDIR /build
COPY app/web/assets/package.json app/web/assets/package-lock.json ./
RUN npm ci --ignore-scripts
COPY app/web/assets ./
RUN node build.mjs

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1
WORKDIR /srv/cairn
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir -c constraints.txt uv \
    && uv pip install -c constraints.txt -r pyproject.toml --extra server
COPY app app
COPY migrations migrations
COPY --from=assets /build/dist app/web/assets/dist
# The package's own metadata and the `cairn` command; the code is read from here.
RUN uv pip install --no-deps -e .

RUN useradd --uid 1000 --create-home cairn && install -d -o cairn -g cairn -m 0700 /data
USER cairn
ENV CAIRN_DATA_DIR=/data CAIRN_HOST=0.0.0.0 CAIRN_PORT=8765
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/api/v1/health', timeout=4)"]
# Event streams stay open as long as a page is: the server must not wait for them when it stops.
CMD ["uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8765", \
     "--proxy-headers", "--timeout-graceful-shutdown", "5"]
