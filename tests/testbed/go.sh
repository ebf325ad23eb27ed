# Go, for the install scripts that build with it: sourced after install.sh.

# From 1.21 on, Go fetches the newer toolchain that go.mod asks for as one more module.
oldest_go=21

need_go() {
  command -v go >/dev/null || { [ -x /usr/local/go/bin/go ] && PATH=$PATH:/usr/local/go/bin; } || install_go
  # What the user has set for other builds must not count here; Debian's Go and some containers' never fetch toolchains if not told.
  export GOTOOLCHAIN=auto GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
  local version minor
  version=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || version="too old to tell its version"
  minor=$(sed -nE 's/^(devel )?go1\.([0-9]+).*/\2/p' <<<"$version")
  [ "${minor:-0}" -ge $oldest_go ] || fail "needs Go 1.$oldest_go or newer, and $(command -v go) is $version; please install" \
    "a newer one from your distribution (on Debian 12: apt-get install -t bookworm-backports golang-go) or the Go project"
}

install_go() {
  command -v dpkg-query >/dev/null || fail "needs Go 1.$oldest_go or newer; please install it (package go or golang)"
  need golang-go ca-certificates
}
