#!/usr/bin/env bash
# Proves deploy/systemd/*.service under a real systemd: a small Debian 12 boots in a container with a hub and an agent.
#   both are up after the boot, each as its own user; the blank agent finds the hub and is let in;
#   after kill -9 each is started again; after SIGSTOP (a hang) the watchdog does it; the agent comes back as the same device;
#   after a stop and another boot both are up again, and the device is connected.
# Not part of `./dev test`: it needs root, debootstrap, systemd-container and some minutes. Give an empty directory; it is kept.
#     tests/systemd/boot.sh DIR [MIRROR]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
root=${1:?usage: tests/systemd/boot.sh DIR [MIRROR]}
mirror=${2:-}
bin=build/release/bin
passed=0

die() { printf 'FAILED: %s\n' "$*" >&2; show_journal; exit 1; }
ok() { passed=$((passed + 1)); printf 'ok %d - %s\n' "$passed" "$*"; }

# ---- the machine ----------------------------------------------------------------------------------------
libs=libssl3,libjansson4,libwslay1,libhttp-parser2.9,libsqlite3-0,libcurl4,libarchive13,libcyaml1,libyaml-0-2
if [ ! -x "$root/lib/systemd/systemd" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,$libs bookworm "$root" ${mirror:+"$mirror"} >/dev/null
fi
install -m 755 $bin/roostd $bin/roost $bin/roost-agent "$root/usr/bin/"
install -m 644 deploy/systemd/*.service "$root/lib/systemd/system/"
: >"$root/etc/machine-id"
rm -rf "$root/var/lib/roost" "$root"/var/lib/private/roost-agent "$root/var/lib/roost-agent"
# As the comment at the head of roostd.service says.
chroot "$root" sh -c 'id roost >/dev/null 2>&1 || useradd --system --home-dir /var/lib/roost --shell /usr/sbin/nologin roost'
chroot "$root" install -d -m 0700 -o roost -g roost /var/lib/roost
bootstrap=$(chroot "$root" roostd init /var/lib/roost --name hub.localhost | sed -n 's/^bootstrap string: //p')
install -d "$root/etc/roost"
install -m 600 /dev/stdin "$root/etc/roost/agent.yaml" <<YAML
bootstrap: "$bootstrap"
hardware: "fridge:7"
YAML
chroot "$root" systemctl --quiet enable roostd roost-agent

# ---- a boot ---------------------------------------------------------------------------------------------
nspawn=
inside=()
boot() {
  # A cgroup v1 machine boots its containers so; elsewhere nothing has to be said.
  local env=()
  [ -d /sys/fs/cgroup/systemd ] && env=(SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0)
  mountpoint -q /run || { mkdir -p /run/systemd/nspawn; mountpoint -q /run/systemd/nspawn || mount -t tmpfs none /run/systemd/nspawn; }
  env "${env[@]}" systemd-nspawn --quiet --register=no --keep-unit -D "$root" --private-network --boot </dev/null >"$root.log" 2>&1 &
  nspawn=$!
  local init=
  wait_for 'the container has an init' init_pid
  init=$(init_pid)
  inside=(nsenter -t "$init" -m -u -i -n -p -C --)
  wait_for 'systemd reached multi-user.target' in_state multi-user.target active
}
init_pid() { pgrep -P "$nspawn" | head -n 1 | grep .; }
halt() {
  "${inside[@]}" systemctl poweroff >/dev/null 2>&1 || true
  wait "$nspawn" || true
  inside=()
}
cleanup() { [ ${#inside[@]} -eq 0 ] || halt; }
trap cleanup EXIT
show_journal() { [ ${#inside[@]} -eq 0 ] || "${inside[@]}" journalctl -u roostd -u roost-agent --no-pager | tail -n 40 >&2; }

# The only waiting there is: until something is so, at most 90 s.
wait_for() {
  local what=$1 i
  shift
  for i in $(seq 900); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  die "not within 90 s: $what"
}
in_state() { [ "$("${inside[@]}" systemctl is-active "$1")" = "$2" ]; }
show() { "${inside[@]}" systemctl show -P "$2" "$1"; }
both_up() { in_state roostd active && in_state roost-agent active && [ "$(show roostd MainPID)" != 0 ] && [ "$(show roost-agent MainPID)" != 0 ]; }
hub() { "${inside[@]}" roost --hub /var/lib/roost "$@"; }
device_is() { hub device list --json | grep -Eq "$1"; }
restarted() { both_up && [ "$(show "$1" NRestarts)" -gt "$2" ]; }
uid_of() { "${inside[@]}" stat -c %u "/proc/$(show "$1" MainPID)"; }

boot
wait_for 'both services are up' both_up
ok 'both services start at boot'
[ "$(uid_of roostd)" = "$("${inside[@]}" id -u roost)" ] || die 'roostd does not run as roost'
[ "$(uid_of roost-agent)" != 0 ] || die 'roost-agent runs as root'
ok 'neither runs as root'
wait_for 'the blank agent asked the hub' device_is '"pending"'
id=$(hub device list --json | grep -Eo 'fridge-[0-9a-f]+' | head -n 1)
hub device approve "$id" >/dev/null
wait_for 'the agent is connected' device_is '"connected": ?true'
ok "the blank agent bootstrapped and connected as $id"

for unit in roostd roost-agent; do
  before=$(show $unit NRestarts)
  "${inside[@]}" systemctl kill --kill-who=main --signal=KILL $unit
  wait_for "$unit is started again after kill -9" restarted $unit "$before"
  wait_for 'the agent is connected again' device_is '"connected": ?true'
  ok "$unit is started again after kill -9 and the device is connected"
done
for unit in roostd roost-agent; do
  before=$(show $unit NRestarts)
  "${inside[@]}" systemctl kill --kill-who=main --signal=STOP $unit
  wait_for "the watchdog restarts $unit" restarted $unit "$before"
  wait_for 'the agent is connected again' device_is '"connected": ?true'
  ok "the watchdog starts $unit again when it hangs, and the device is connected"
done
[ "$(hub device list --json | grep -Eo 'fridge-[0-9a-f]+' | sort -u | wc -l)" = 1 ] || die 'the agent became another device'
ok 'it stayed the same device'
"${inside[@]}" systemctl reload roostd
in_state roostd active || die 'roostd is gone after a reload'
ok 'a reload keeps the hub up'
"${inside[@]}" systemctl stop roostd
[ "$(show roostd Result)" = success ] || die 'roostd did not stop cleanly'
ok 'a stop is a success'

halt
boot
wait_for 'both services are up' both_up
wait_for 'the agent is connected after the next boot' device_is '"connected": ?true'
ok 'after another boot both are up and the device is connected'
printf '%d passed, 0 failed\n' "$passed"
