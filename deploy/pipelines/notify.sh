#!/bin/sh
# The release step that only tells the devices, with the roost command line: one durable write for the whole fleet, then
# the hub's own count. Exit code: 0 every device took it, 5 some refused it or let it expire, 6 not known of all in time,
# 7 no hub.
#
#   ROOST_CONNECTION_STRING, ROOST_OPTIONS   as in release.sh
#   MESSAGE (update)   TIMEOUT (30m): how long to wait   TTL (24h): how long the message waits for a device
set -eu
# shellcheck disable=SC2086
exec roost ${ROOST_OPTIONS:-} send --all --wait --timeout "${TIMEOUT:-30m}" --ttl "${TTL:-24h}" "${MESSAGE:-update}"
