#!/usr/bin/env bash
# Build the image and start it once: with docker where an engine answers, else as root on Debian with buildah,
# base image included (made by debootstrap, for this machine alone).
#
#   deploy/image.sh [tag]        settings: SUITE (trixie), BASE_IMAGE (docker alone), WORK (a folder for the base)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tag=${1:-pointsman:dev}
suite=${SUITE:-trixie}

with_docker() {
    docker build ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} --tag "$tag" .
    size="$(($(docker image inspect --format '{{.Size}}' "$tag") / 1000000)) MB"
    inside() { docker run --rm --read-only --tmpfs /tmp --entrypoint "$1" "$tag" "${@:2}"; }
    check
}

with_buildah() {
    [ "$(id -u)" = 0 ] || fail "no docker engine answers, and building without one needs root"
    work=${WORK:-${XDG_CACHE_HOME:-$HOME/.cache}/pointsman-image}
    local tools=() tool
    for tool in buildah debootstrap; do command -v "$tool" >/dev/null || tools+=("$tool"); done
    if [ ${#tools[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || fail "no docker engine answers; install one, or ${tools[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${tools[@]}" >/dev/null
    fi
    mkdir -p "$work"
    store=(--storage-driver "${STORAGE:-overlay}" --root "$work/store" --runroot "$work/run")
    make_base
    buildah "${store[@]}" bud --isolation chroot --layers --pull-never --build-arg "BASE_IMAGE=localhost/pointsman-base:$suite" --tag "$tag" .
    size=$(buildah "${store[@]}" images --format '{{.Size}}' "$tag")
    container=$(buildah "${store[@]}" from --pull-never "$tag")
    trap 'buildah "${store[@]}" rm "$container" >/dev/null' EXIT
    inside() { buildah "${store[@]}" run --isolation chroot "$container" -- "$@"; }
    check
}

# A stand-in for the public base image. A machine behind a certificate authority of its own has it in here, and so in
# this image alone.
make_base() {
    local tree=$work/$suite base authorities=/etc/ssl/certs/ca-certificates.crt
    buildah "${store[@]}" inspect --type image "localhost/pointsman-base:$suite" >/dev/null 2>&1 && return
    rm -rf "$tree.new"
    if [ ! -d "$tree" ]; then
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$tree.new" >"$work/debootstrap.log" ||
            fail "debootstrap failed, see $work/debootstrap.log"
        rm -rf "$tree.new"/var/cache/apt/archives/*.deb "$tree.new"/var/cache/apt/*.bin "$tree.new"/var/lib/apt/lists/* \
            "$tree.new"/usr/share/{doc,man,locale}/*
        printf 'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\nAcquire::Languages "none";\n' \
            >"$tree.new/etc/apt/apt.conf.d/docker-clean"
        mv "$tree.new" "$tree"
    fi
    base=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add --quiet "$base" "$tree" / >/dev/null
    if [ -n "${SSL_CERT_FILE:-}" ]; then
        buildah "${store[@]}" copy --quiet "$base" "$SSL_CERT_FILE" $authorities >/dev/null
        buildah "${store[@]}" config --env SSL_CERT_FILE=$authorities --env PIP_CERT=$authorities "$base"
    fi
    buildah "${store[@]}" config --cmd bash "$base"
    buildah "${store[@]}" commit --quiet --rm "$base" "localhost/pointsman-base:$suite" >/dev/null
}

# What must hold of the image, whoever built it.
check() {
    local tool
    inside pointsman --version
    [ "$(inside id -u)" = 10001 ] || fail "it does not run as uid 10001"
    for tool in pip pip3 uv gcc cc make; do
        inside sh -c "! command -v $tool" || fail "$tool is left in it"
    done
    inside python3 -c '
import importlib.metadata, importlib.resources, os, sys
found = sorted(point.name for point in importlib.metadata.entry_points(group="pointsman") if point.load())
if found != ["folder", "forgejo", "github", "gitlab", "jira"]:
    sys.exit(f"the plugins in it are {found}")
if not any(importlib.resources.files("pointsman.sql").joinpath("migrations").iterdir()):
    sys.exit("the migrations are missing")
if os.access("/opt/pointsman", os.W_OK) or os.access("/opt/pointsman/bin/pointsman", os.W_OK):
    sys.exit("it can change its own program")' || fail "see above"
    echo "$tag: $size"
}

fail() {
    echo "image.sh: $*" >&2
    exit 1
}

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then with_docker; else with_buildah; fi
