# syntax=docker/dockerfile:1
# The image of the operator: one static program, the certificates that it trusts, and nothing else.
#
#   docker build -t microscaler .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/microscaler:0.1.0 --push .
#
# What was learnt, in an empty root, as the user below:
# - A static program of glibc 2.34 or newer resolves names there: files and dns are built in, and without /etc/nsswitch.conf they are
#   asked in this order. So there is no need of musl, whose allocator is slow with threads.
# - --target must be named, even if it is the machine's own: only then do RUSTFLAGS leave procedural macros alone, which have to be
#   shared libraries.
# - rustls takes the certificates that it trusts from the system. Without the file below no client starts, not even for http://; with
#   another file at its place, or named by SSL_CERT_FILE, others are trusted.
# - A static program finds getrandom(2) missing and reads /dev/random and /dev/urandom, which every container has; a bare chroot has not.

# Builds on the machine's own architecture for the wanted one, since emulating the compiler takes hours.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
RUN <<'SH'
set -eu
case "$TARGETARCH" in
amd64) triple=x86_64-unknown-linux-gnu gcc=x86_64-linux-gnu-gcc package="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
arm64) triple=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu-gcc package="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
*) echo "no build for $TARGETARCH" >&2; exit 1 ;;
esac
[ "$TARGETARCH" != "$BUILDARCH" ] || package=
apt-get update
apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev $package
rm -rf /var/lib/apt/lists/*
rustup target add "$triple"
# Read by the next steps.
cat > /build.env <<ENV
export TRIPLE=$triple CC_$(echo $triple | tr - _)=$gcc CARGO_TARGET_$(echo $triple | tr a-z- A-Z_)_LINKER=$gcc
ENV
SH
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked <<'SH'
set -eu
. /build.env
# Without symbols it is 28 MB rather than 37. Without relocations, executors share all of it.
CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
  cargo build --release --locked --target "$TRIPLE" --bin microscaler --bin microscaler-executor
# Out of the cache, which is gone after this step.
cp "target/$TRIPLE/release/microscaler" "target/$TRIPLE/release/microscaler-executor" /
SH

FROM scratch
LABEL org.opencontainers.image.title="microscaler" \
      org.opencontainers.image.description="Keeps containers in step with demand in milliseconds, on a fixed pool of Apache Mesos hosts" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /microscaler /microscaler
# For agents: copy it out of the image (docker create, docker cp).
COPY --from=build /microscaler-executor /microscaler-executor
# No name stands for this number: there is no /etc/passwd.
USER 65532:65532
EXPOSE 8910
ENTRYPOINT ["/microscaler"]
CMD ["operator"]
