# The image that jobs run in: the runner, scikit-learn, ONNX and the sandbox. From the root of the repository:
#   docker build -f services/trainer/job.Dockerfile -t ghcr.io/trainyard/trainer-job .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
RUN python3 -m venv --without-pip /opt/trainyard && python3 -m venv --without-pip /opt/build && mkdir -p /empty
COPY requirements/images/build.txt /locks/
RUN --mount=type=cache,id=trainyard-pip,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=deploy/images/wheels,target=/wheels \
    python3 -m pip --python /opt/build/bin/python --disable-pip-version-check install --quiet --no-deps \
    --require-hashes --only-binary :all: --find-links /wheels -r /locks/build.txt
COPY requirements/images/trainer-job.txt /locks/
RUN --mount=type=cache,id=trainyard-pip,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=deploy/images/wheels,target=/wheels \
    python3 -m pip --python /opt/trainyard/bin/python --disable-pip-version-check install --quiet --no-deps \
    --no-compile --require-hashes --only-binary :all: --find-links /wheels -r /locks/trainer-job.txt
# Compiled by content, and all of it as old as everything else: the same lock makes the same layer.
COPY deploy/images/trim.py /locks/
RUN site=$(/opt/trainyard/bin/python -c 'import site; print(site.getsitepackages()[0])') \
    && python3 /locks/trim.py "$site" && echo /opt/app > "$site/app.pth" \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/trainyard \
    && find /opt/trainyard /empty -exec touch -hd @0 {} +
COPY libs/kit /src/libs/kit
COPY libs/models /src/libs/models
COPY services/trainer /src/services/trainer
RUN python3 -m pip --python /opt/build/bin/python --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation \
    --no-index --wheel-dir /own /src/libs/kit /src/libs/models /src/services/trainer \
    && python3 -m pip --python /opt/trainyard/bin/python --disable-pip-version-check install --quiet --no-deps \
    --no-compile --no-index --target /opt/app /own/*.whl \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/app \
    && find /opt/app -exec touch -hd @0 {} +

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainyard-trainer-job" \
      org.opencontainers.image.description="Runs training jobs." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/trainyard/trainyard" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The sandbox of the code that users bring.
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/trainyard /opt/trainyard
COPY --from=build /opt/app /opt/app
COPY --from=build --chown=65532:65532 /empty /var/lib/trainyard
ENV PATH=/opt/trainyard/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2 \
    TRAINER_WORK_DIR=/var/lib/trainyard
USER 65532:65532
WORKDIR /var/lib/trainyard
# It listens to nobody. Its folder is there once it has read its settings.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import os; os.stat('/var/lib/trainyard/runner')"]
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["runner"]
