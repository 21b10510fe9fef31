# Every process of Leadstream is this image with another command; docker-compose.yml says which.

FROM python:3.11.14-slim AS wheels
WORKDIR /source
# Everything that the lock file names, checked against its hashes; what is only for developers stays here.
COPY requirements.txt ./
RUN pip wheel --quiet --no-cache-dir --require-hashes --requirement requirements.txt --wheel-dir /wheels
# The pages, with the Node that dashboard/app/node.txt locks; the image itself has none.
COPY dashboard/app dashboard/app
RUN python dashboard/app/build.py
COPY . .
RUN pip wheel --quiet --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --quiet --no-cache-dir --no-index --find-links /wheels leadstream
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/leadstream leadstream
USER leadstream
WORKDIR /var/lib/leadstream
# The gateway's and the worker's. Both listen on loopback until LEADSTREAM_HOST (with keys) and LEADSTREAM_WORKER_HOST
# say otherwise.
EXPOSE 8000 6066 6067
ENTRYPOINT ["leadstream"]
CMD ["--help"]
