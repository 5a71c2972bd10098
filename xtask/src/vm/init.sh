#!/bin/busybox sh
# The first process of a small guest: mounts what a node has, then runs the tests.
PATH=/bin
export PATH
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ip link set lo up
for module in /modules/*.ko; do [ -e "$module" ] && insmod "$module"; done
for controller in cpu memory pids io; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
. /t/plan.sh
poweroff -f
