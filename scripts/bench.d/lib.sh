# What measurements in scripts/vm share: ours beside Debian's, in turns. They source this, and set `ours`, the folder of our
# programs.

say() { printf '%s\n' "$*"; }
now() { date +%s.%N; }
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
# User and system time of the switch so far, in milliseconds: of all its threads, of handlers, of revalidators.
cpu() {
    { cat "/proc/$switch/task/"*/stat 2> /dev/null || true; } | awk -v ms="$((1000 / $(getconf CLK_TCK)))" '
        { who = $0; sub(/^[^(]*\(/, "", who); sub(/[^a-z].*/, "", who); sub(/.*\) /, "") }
        { u[who] += $12 * ms; s[who] += $13 * ms; us += $12 * ms; ss += $13 * ms }
        END {
            print us, ss
            print u["handler"] + 0, s["handler"] + 0
            print u["revalidator"] + 0, s["revalidator"] + 0
        }'
}
# spent BEFORE AFTER COUNT: what the times between the two are for each of COUNT.
spent() {
    paste -d ' ' <(echo "$1") <(echo "$2") | awk -v n="$3" '
        { u[NR] = ($3 - $1) * 1000 / n; s[NR] = ($4 - $2) * 1000 / n }
        END {
            printf "user %.2f us and system %.2f us (handlers %.2f and %.2f, revalidators %.2f and %.2f)", \
                u[1], s[1], u[2], s[2], u[3], s[3]
        }'
}
# first BEFORE AFTER COUNT: of that, the user time of all threads.
first() { paste -d ' ' <(echo "$1") <(echo "$2") | awk -v n="$3" 'NR == 1 { printf "%.2f", ($3 - $1) * 1000 / n }'; }
# keep WHAT FIGURE; median WHO WHAT
keep() { echo "$2" >> "/run/$1-$who"; }
median() { sort -n "/run/$2-$1" | awk '{ at[NR] = $1 } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'; }

# daemons FOLDER: a database and a switch of their own.
daemons() {
    export OVS_RUNDIR=$1 OVS_DBDIR=$1 OVS_LOGDIR=$1 OVS_SYSCONFDIR=$1
    mkdir -p "$1"
    ovsdb-tool create "$1/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server "$1/conf.db" --remote="punix:$1/db.sock" --pidfile --detach --log-file -vconsole:off
    ovs-vsctl --no-wait init
    ovs-vswitchd --pidfile --detach --log-file -vconsole:off
    switch=$(cat "$1/ovs-vswitchd.pid")
}
# Ends them.
no_daemons() {
    ovs-appctl exit --cleanup || true
    ovs-appctl -t ovsdb-server exit || true
}

# program WHO: announces whose turn it is, and has his programs found; ours are in the folder $ours.
program() {
    who=$1
    PATH=/usr/sbin:/usr/bin:/sbin:/bin
    [ "$who" = debian ] || PATH=$ours:$PATH
    say "== $who: $(ovs-vswitchd --version | head -n 1) ($(command -v ovs-vswitchd)), $(nproc) CPUs, Linux $(uname -r)"
}

# compare WHAT TEXT: the medians of ours beside Debian's.
compare() {
    local ours debian
    ours=$(median ours "$1") debian=$(median debian "$1")
    say "$2: $ours, Debian's $debian, ratio $(calc %.2f "$ours / $debian")"
}

pgset() { echo "$2" > "/proc/net/pktgen/$1"; }
# load CPU DEVICE COUNT RATE FIRST: packets from FIRST on, so many a second; 0 for no limit.
load() {
    pgset "kpktgend_$1" "add_device $2@$1"
    pgset "$2@$1" "count $3"
    pgset "$2@$1" "clone_skb 0"
    pgset "$2@$1" "pkt_size 60"
    pgset "$2@$1" "delay 0"
    [ "$4" = 0 ] || pgset "$2@$1" "ratep $4"
    pgset "$2@$1" "src_min $5"
    pgset "$2@$1" "src_max ${6:-10.255.255.254}"
    pgset "$2@$1" "dst 11.0.0.1"
    pgset "$2@$1" "dst_mac 02:00:00:00:00:02"
    pgset "$2@$1" "udp_src_min 1024"
    pgset "$2@$1" "udp_src_max 1024"
    pgset "$2@$1" "udp_dst_min 9"
    pgset "$2@$1" "udp_dst_max 9"
}
unload() { for cpu in 0 1; do pgset "kpktgend_$cpu" rem_device_all; done; }
go() { pgset pgctrl start; }
halt() { pgset pgctrl stop; }
