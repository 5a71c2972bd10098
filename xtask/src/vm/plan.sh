# Runs the tests that /t/plan names one by one, and says on a serial line how they ended.
# See xtask/src/vm/console.rs for the words.
HOME=/tmp HEALER_BIN=/t/healer HEALER_OBJECT=/t/healer-ebpf
HEALER_VICTIMS=/t/victims HEALER_FACTS=/tmp/facts RUST_BACKTRACE=1
export HOME HEALER_BIN HEALER_OBJECT HEALER_VICTIMS HEALER_FACTS RUST_BACKTRACE
exec </dev/null >"/dev/$(cat /t/terminal)" 2>&1
# Sensors come and go with each test: the kernel is not to wait for quiet moments in between.
echo 0 >/sys/kernel/rcu_normal
echo 1 >/sys/kernel/rcu_expedited

# check NAME COMMAND…: what every node of ours has, as a test.
check() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "@@ guest::$name PASS"; else echo "@@ guest::$name FAIL $*"; fi
}
echo "@@ guest UP $(uname -r)"
check kernel_types test -r /sys/kernel/btf/vmlinux
check memory_controller grep -qw memory /sys/fs/cgroup/cgroup.subtree_control
check pressure cat /proc/pressure/memory
check tracepoints test -r /sys/kernel/tracing/events/oom/mark_victim/format
check no_cgroup_v1 sh -c '! grep -q " - cgroup " /proc/self/mountinfo'

seconds_since() {
    read -r now _ </proc/uptime
    awk "BEGIN { printf \"%.1fs\", $now - $1 }"
}

# run FILE TEST: one test in a process of its own; nothing of it is left when the next begins.
run() {
    echo "@@ $1::$2 RUN"
    read -r begun _ </proc/uptime
    timeout -s KILL "$(cat /t/limit)" "/t/$1" --exact "$2" --test-threads=1 >/tmp/.out 2>&1
    code=$?
    if [ $code = 0 ]; then
        echo "@@ $1::$2 PASS $(seconds_since "$begun")"
    else
        tail -n 80 /tmp/.out | sed 's/^/| /'
        dmesg | tail -n 30 | sed 's/^/| kernel: /'
        echo "@@ $1::$2 FAIL ended with $code after $(seconds_since "$begun")"
    fi
    # Under a systemd the rest of the system lives on.
    [ $$ = 1 ] && kill -9 -1
}

# The plan: a test file, then its tests by name, or none for all.
while read -r file names; do
    all=$("/t/$file" --list --format terse | sed -n 's/: test$//p')
    [ -n "$all" ] || echo "@@ $file::list FAIL it names no test"
    for name in ${names:-$all}; do
        # Asked for a name that is not there, the runner passes with nothing run.
        if echo "$all" | grep -qx "$name"; then
            run "$file" "$name"
        else
            echo "@@ $file::$name FAIL there is no such test"
        fi
    done
done </t/plan
[ -e "$HEALER_FACTS" ] && sed 's/^/@@ fact DATA /' "$HEALER_FACTS"
echo "@@ guest DONE"
