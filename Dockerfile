# The environment of the lock file. The checkout is mounted, so that results, caches and git stay outside:
#   docker build --tag rsa-ssl .
#   docker run --rm --gpus all --ipc host --volume "$PWD:/checkout" rsa-ssl snakemake
# Apptainer makes an image of it: apptainer build rsa-ssl.sif docker-daemon://rsa-ssl:latest
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory /checkout

COPY requirements.lock /tmp/
RUN python -m pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock

WORKDIR /checkout
