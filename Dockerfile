# The registry in an image: Debian's Python and the registry, as a user without rights, on a root that may be read-only.
#
#   docker build -t regserver .
#   docker run --read-only -p 5000:5000 -v regserver-data:/data regserver
#
# The same source, base and packages give the same files: pass --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
# (buildah: --timestamp as well). Another package index: --build-arg PIP_INDEX_URL=…, and PIP_CERT for its certificate.
FROM debian:bookworm-slim AS python
ARG SOURCE_DATE_EPOCH=0
ENV PYTHONDONTWRITEBYTECODE=1
# What differs from one run to the next goes: logs and caches.
RUN --mount=type=cache,target=/var/lib/apt/lists --mount=type=cache,target=/var/cache/apt \
    export DEBIAN_FRONTEND=noninteractive PYTHONHASHSEED=0 \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends python3 ca-certificates >/dev/null \
 && rm -rf /var/log/* /var/cache/debconf/* /var/cache/ldconfig /tmp/*

FROM python AS build
ARG SOURCE_DATE_EPOCH=0
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
RUN --mount=type=cache,target=/var/lib/apt/lists --mount=type=cache,target=/var/cache/apt \
    export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null \
 && python3 -m venv /pip
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY regserver ./regserver
RUN export PYTHONHASHSEED=0 SOURCE_DATE_EPOCH \
 && python3 -m venv --without-pip /opt/regserver \
 && /pip/bin/pip --python /opt/regserver/bin/python install --quiet --no-cache-dir '.[postgres]'

FROM python
COPY --from=build /opt/regserver /opt/regserver
RUN echo 'regserver:x:10001:10001::/data:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'regserver:x:10001:' >> /etc/group \
 && install -d -o 10001 -g 10001 -m 0700 /data
ENV PATH=/opt/regserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10001:10001
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/readyz', timeout=4)"]
ENTRYPOINT ["regserver"]
CMD ["serve", "--root", "/data", "--listen", "0.0.0.0:5000"]
