# The image of docker_buildup_exporter: the program and nothing to go with it but
# the public certificate authorities.
#   docker build --build-arg VERSION=1.2.3 -t docker_buildup_exporter .
# BuildKit and the classic builder of old engines both build it. .ci/image proves that.

ARG VERSION=unreleased

# Go compiles for any platform at full speed on the builder's own. BuildKit says which
# that is; to the classic builder "linux" means the processor that it runs on. A
# default in an ARG would be no substitute: it outdoes what BuildKit says.
FROM --platform=${BUILDPLATFORM:-linux} golang:1.26 AS build
WORKDIR /src
# The modules apart from the source, so that they are fetched only when they change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The classic builder leaves the target empty. To Go that is the platform it runs on.
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -ldflags "-s -w -X github.com/prometheus/common/version.Version=$VERSION" \
    -o /docker_buildup_exporter .

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="docker_buildup_exporter" \
      org.opencontainers.image.description="Tells Prometheus what piles up on a Docker host, and how full its disk is." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# For an engine that is reached by TLS and has a certificate from one of them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /docker_buildup_exporter /
# Nobody, by number: there is no /etc/passwd. To use the engine's socket it also
# needs the socket's group: docker run --group-add.
USER 65534:65534
EXPOSE 10058
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/docker_buildup_exporter", "healthcheck"]
ENTRYPOINT ["/docker_buildup_exporter"]
