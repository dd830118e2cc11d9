# The image of docker_buildup_exporter: the program and the public certificate authorities.
#   docker build --build-arg VERSION=1.2.3 -t docker_buildup_exporter .
# BuildKit and the classic builder of old engines both build it: .ci/test-image.

ARG VERSION=unreleased

# The compiler runs on the builder's own platform, because cross-compiling is faster than
# emulation. BuildKit sets BUILDPLATFORM. For the classic builder, "linux" means the architecture
# it runs on. A default in an ARG would override the value of BuildKit.
FROM --platform=${BUILDPLATFORM:-linux} golang:1.26 AS build
WORKDIR /src
# Modules come before the source, so that they are downloaded only when they change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The classic builder leaves the target empty. Go then builds for its own platform.
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -ldflags "-s -w -X github.com/prometheus/common/version.Version=$VERSION" \
    -o /docker_buildup_exporter .

FROM scratch
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="docker_buildup_exporter" \
      org.opencontainers.image.description="Prometheus exporter for what accumulates on a Docker host, and for its free disk space." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="README.md" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.version="$VERSION"
# For an engine with TLS and a certificate of a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /docker_buildup_exporter /
# The user nobody, by number, because there is no /etc/passwd. Access to the engine's socket also
# needs the group of the socket: docker run --group-add.
USER 65534:65534
EXPOSE 10058
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/docker_buildup_exporter", "healthcheck"]
ENTRYPOINT ["/docker_buildup_exporter"]
