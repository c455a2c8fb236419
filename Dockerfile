FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 qe \
    && install --directory --owner qe --group qe /data

WORKDIR /opt/qefleet
COPY requirements.lock pyproject.toml README.md ./
# The lock names everything, and newer versions than Pynguin asks for.
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock
COPY workflows workflows
COPY activities activities
COPY worker worker
COPY qefleet qefleet
RUN pip install --no-cache-dir --no-deps .

USER qe
ENV QE_DATA_DIR=/data
WORKDIR /data
CMD ["qe", "--help"]
