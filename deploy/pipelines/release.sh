#!/bin/sh
# The release step of a pipeline with the roost command line: builds, signs and pushes a release, has every device
# run it, and ends with the truth as exit code (roost(1), "EXIT STATUS"): 0 every device confirmed it after its trial
# boot, 5 some failed, 6 not known of all in time, 7 no hub, 8 another update took over, 10 devices went back.
#
#   ROOST_CONNECTION_STRING  the hub, with a policy that may write and send; ROOST_OPTIONS: further options of
#                            every roost call, such as --ca-file FILE
#   PRODUCT VERSION HARDWARE_CLASS IMAGE   what is released; a "v" before the version is left out
#   RELEASE_KEY              file with the release key
#   TIMEOUT                  how long to wait, 30m when not set
set -eu
: "${PRODUCT:?}" "${VERSION:?}" "${HARDWARE_CLASS:?}" "${IMAGE:?}" "${RELEASE_KEY:?}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# shellcheck disable=SC2086
roost() { command roost ${ROOST_OPTIONS:-} "$@"; }

VERSION=${VERSION#v}
install -m 600 "$RELEASE_KEY" "$out/release.key" # a key that others may read is refused
roost release build -p "$PRODUCT" -v "$VERSION" --hardware-class "$HARDWARE_CLASS" --file "$IMAGE" --out "$out/release"
roost release sign "$out/release" --key-file "$out/release.key"
roost release verify "$out/release"
roost release push "$out/release"
roost update --all --release "$PRODUCT@$VERSION" --wait --timeout "${TIMEOUT:-30m}"
