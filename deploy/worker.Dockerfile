# The data plane: a worker and its trainers. Of the control plane it holds the contract and the engines' torch-free halves.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1
WORKDIR /srv/cairn
COPY constraints.txt pyproject.toml ./
# torch's wheels bring CUDA; the host brings the driver.
RUN pip install --no-cache-dir -c constraints.txt uv \
    && uv pip install -c constraints.txt -r pyproject.toml --extra worker --extra deepmd --extra minimind
COPY app/__init__.py app/__init__.py
COPY app/wire app/wire
COPY app/engines app/engines
COPY worker worker

RUN useradd --uid 1000 --create-home cairn && install -d -o cairn -g cairn -m 0700 /data
USER cairn
ENV PYTHONPATH=/srv/cairn CAIRN_DATA_DIR=/data
VOLUME /data
CMD ["python", "-m", "worker"]
