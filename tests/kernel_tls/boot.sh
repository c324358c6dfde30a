#!/usr/bin/env bash
# Runs tests/conformance/tls.test.mjs with `tls.record_layer: kernel` on a Debian 12 kernel that has TLS, in a virtual machine: OpenSSL, GnuTLS,
# mbedTLS, BearSSL, curl, Node, Python and mosquitto read what that kernel seals.
# Not part of `./dev test`: it needs root, debootstrap, qemu-system-x86 and some minutes; without a /dev/kvm that works give
# ACCEL=tcg, and half an hour. Give an empty directory; it is kept.
#     ./dev build && ./dev test conformance      # the programs, and the packages of the tests
#     tests/kernel_tls/boot.sh DIR [MIRROR]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
dir=${1:?usage: tests/kernel_tls/boot.sh DIR [MIRROR]}
mirror=${2:-}
mkdir -p "$dir"
tree=$dir/tree
[ -x build/release/bin/roostd ] && [ -d tests/conformance/node_modules ] ||
  { echo "first: ./dev build && ./dev test conformance" >&2; exit 1; }

# ---- the machine: a kernel, the clients, the checkout ---------------------------------------------------
if [ ! -e "$tree/vmlinuz" ]; then
  libs=libssl3,libjansson4,libwslay1,libhttp-parser2.9,libsqlite3-0,libcurl4,libarchive13,libcyaml1,libyaml-0-2,libsystemd0
  clients=nodejs,openssl,gnutls-bin,curl,python3,mosquitto-clients,gcc,libc6-dev,libmbedtls-dev,libbearssl-dev
  debootstrap --variant=minbase --include=linux-image-cloud-amd64,initramfs-tools,kmod,iproute2,procps,ca-certificates,$libs,$clients \
    bookworm "$tree" ${mirror:+"$mirror"} >"$dir/debootstrap.log" 2>&1
fi
rm -rf "$tree/roost"
mkdir -p "$tree/roost/build/release"
cp -a build/release/bin "$tree/roost/build/release/"
cp -a tests docs "$tree/roost/"
cat >"$tree/test.sh" <<'INIT'
#!/bin/bash
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
ip link set lo up
export NO_COLOR=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 ROOST_TLS_RECORD_LAYER=kernel ROOST_PEER_TIMEOUT_MS=600000
modprobe tls || echo "no kernel TLS"
cat /proc/sys/net/ipv4/tcp_available_ulp
cd /roost/tests/conformance && node --test --test-concurrency=1 tls.test.mjs
grep . /proc/net/tls_stat
sync
echo o >/proc/sysrq-trigger
sleep 10
INIT
chmod 755 "$tree/test.sh"
rm -f "$dir/disk"
mke2fs -q -t ext4 -d "$tree" "$dir/disk" 3G

# ---- one boot -------------------------------------------------------------------------------------------
qemu-system-x86_64 -accel "${ACCEL:-kvm}" -cpu max -smp 2 -m 2048 -nographic -no-reboot \
  -kernel "$tree/vmlinuz" -initrd "$tree/initrd.img" -drive "file=$dir/disk,if=virtio,format=raw" \
  -append "root=/dev/vda rw console=ttyS0 quiet panic=-1 init=/test.sh" </dev/null | stdbuf -oL tr -d '\r' | tee "$dir/console.log"
grep -q '^\(#\|ℹ\) fail 0$' "$dir/console.log"
# Connections whose keys the kernel took, for sending.
awk '$1 == "TlsTxSw" || $1 == "TlsTxDevice" { n += $2 } END { if (!n) exit 1; print n " connections were sealed by the kernel" }' "$dir/console.log"
