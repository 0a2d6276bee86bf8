# The simulator: the extra `sim` alone, and no torch. Build from the repository's root, with BuildKit.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Lists of their own, so that a line of pyproject.toml about something else installs nothing anew.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /requirements
COPY pyproject.toml docker/requirements.py ./
RUN python3 requirements.py build-system > build.txt && python3 requirements.py sim > extra.txt

FROM ${BASE_IMAGE} AS tools
# Where pip looks besides its default, for example at an index of CPU builds of torch.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY --from=requirements /requirements/build.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 -m venv /opt/build && python3 -m venv --without-pip /opt/assay \
    && /opt/build/bin/pip install --requirement /requirements/build.txt

# What we made: a small layer of its own, so that a changed source moves no gigabyte.
FROM tools AS project
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/build/bin/pip --python /opt/assay/bin/python3 install \
        --no-deps --no-index --prefix /opt/project /wheel/*.whl

# What others made: a layer that only a change of the list or of constraints.txt rebuilds.
FROM tools AS dependencies
COPY --from=requirements /requirements/extra.txt /requirements/
COPY constraints.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    /opt/build/bin/pip --python /opt/assay/bin/python3 install \
        --constraint /requirements/constraints.txt --requirement /requirements/extra.txt

FROM ${BASE_IMAGE}
# What Drake's VTK engine renders with where there is no display and no GPU.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libegl1 libgl1-mesa-dri libglib2.0-0 libglx0 libopengl0 libx11-6 libxrender1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
COPY --from=dependencies /opt/assay /opt/assay
COPY --from=project /opt/project /opt/assay
COPY docker/run_as_owner.sh docker/evaluate.sh /opt/assay/bin/
# How the services of an evaluation tell each other that a part of it has ended. Anyone may write:
# whoever owns the mounted folders is the user there.
RUN mkdir -m 0777 /run/assay
# That user may have no entry in /etc/passwd, and the root file system may be read-only.
ENV PATH=/opt/assay/bin:$PATH HOME=/tmp USER=assay PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["sim-client"]
CMD ["--help"]
