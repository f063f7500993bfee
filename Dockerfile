# The registry in an image. Build: docker build -t regserver .
# Run: docker run -p 5000:5000 -v regserver-data:/data regserver
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY regserver ./regserver
RUN python -m venv /opt/regserver && /opt/regserver/bin/pip install --no-cache-dir '.[postgres]'

FROM python:3.13-slim
COPY --from=build /opt/regserver /opt/regserver
RUN useradd --system --uid 10001 --no-create-home regserver && install -d -o regserver -m 0700 /data
USER regserver
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/regserver/bin/regserver"]
CMD ["serve", "--root", "/data", "--listen", "0.0.0.0:5000"]
