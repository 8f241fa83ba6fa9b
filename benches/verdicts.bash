# Drills and verdicts on a release binary, to be sourced by benches/claims.
#
# `drills` does each drill so many times, on a server of its own, and tells how the reports came out.
#
# `verdicts` brings about for real what the tests know by recorded samples alone, and says what `larder why` made of
# it:
#
#   starved       the threads of the worker process run only where nobody else does (SCHED_IDLE), on one core that
#                 hogs take
#   throttled     a control group gives the worker process, and hogs beside it, 1 ms of 100 ms
#   page-faulting the server lives in a control group with less memory than it uses, and the rest is swapped out,
#                 from where a page or two of its worker come back in a second; where there is no swap, a file is
#                 made for it, and is gone in the end
#
# What cannot be brought about here (no rights to make control groups, no swap) is said to be NOT SHOWN, with the
# reason, and does not count as shown.

# drill NAME WORKER OPTION...: the report of a drill, as JSON.
drill() {
    "$larder" drill "$1" --worker "$2" --admin "unix:$work/admin" --json "${@:3}" 2>>"$work/drill-errors" || true
}

# good REPORT LINE: 1, if this line of the report is good.
good() {
    grep -c "\"$2\":{\"is_good\":true" <<<"$1" || true
}

drills() {
    local times=$1 name at report failed=0
    printf 'each %s times; load average %s\n\n' "$times" "$(cut -d' ' -f1-3 /proc/loadavg)"
    printf '%-12s %5s %8s %6s %10s %10s %11s %12s %13s  %s\n' drill good noticed named contained recovered \
        'items kept' 'noticed, ms' 'recovered, ms' 'client errors'
    for name in hang spin panic abort segfault oom slow-io deny-memory; do
        workers=2 cores=env log=off start_two 127.0.0.1:0 --memory 256MiB --admin "unix:$work/admin" --evidence none \
            --allow-drills --cold-after-deaths 1000000 --end-after-deaths 1000000 --restart-delay-max 0s \
            2>>"$work/server-errors"
        : >"$work/reports"
        for ((at = 0; at < times; at++)); do
            report=$(drill "$name" $((at % 2)) --for 4s)
            if [[ -z $report ]]; then
                echo "claims: no report of a drill: $(tail -1 "$work/drill-errors")" >&2
                failed=1
                continue
            fi
            echo "$report" >>"$work/reports"
        done
        drills_line "$name" || failed=1
        stop
        rm -f "$work/admin"
    done
    return $failed
}

# One line of the table, out of all reports of a drill.
drills_line() {
    local line count all=() report
    all=$(wc -l <"$work/reports")
    printf '%-12s %2s/%-2s' "$1" "$(grep -c '"worker":[0-9]*,"is_good":true' "$work/reports" || true)" "$all"
    for line in noticed named_correctly contained recovered items_kept; do
        count=$(good "$(<"$work/reports")" "$line")
        printf ' %5s/%-2s' "$count" "$all"
    done
    printf '   %11s %13s  %s\n' "$(drills_range noticed_after_ms)" "$(drills_range recovered_after_ms)" \
        "$(grep -o '"client_errors":{[^}]*}' "$work/reports" | grep -oE '"[^"{]*":[0-9]+' | sed 's/"\(.*\)":/\1\t/' |
            awk -F'\t' '{ sum[$1] += $2 } END { for (kind in sum) printf "%s%d %s", (n++ ? "; " : ""), sum[kind], kind }')"
    grep -o '"[a-z_]*":{"is_good":false,"says":"[^"]*"' "$work/reports" | sort | uniq -c | sed 's/^/    /' || true
    [[ $(grep -c '"worker":[0-9]*,"is_good":true' "$work/reports") == "$all" ]]
}

# The least and the most of a figure.
drills_range() {
    grep -o "\"$1\":[0-9]*" "$work/reports" | cut -d: -f2 | sort -n | sed -n '1p;$p' | paste -sd- || true
}

# A server of one worker under load, which is named early.
verdicts_start() {
    workers=1 cores=env log=off start_two 127.0.0.1:0 --memory "${memory:-256MiB}" --admin "unix:$work/admin" \
        --evidence none --stall-warn 300ms
    worker=$(<"/proc/$server/task/$server/children")
    worker=${worker// /}
    taskset -c 1 "$larder" bench --server "larder://$address" --keys 1M --value-bytes 500 --ratio 1:1 --connections 8 \
        --duration 2m --json >/dev/null 2>&1 &
    load=$!
}

verdicts_stop() {
    kill "$load" "${hogs[@]}" 2>/dev/null || true
    wait "$load" "${hogs[@]}" 2>/dev/null || true
    hogs=()
    stop
    rm -f "$work/admin"
}

# verdicts_hogs NUMBER: so many on the first core.
verdicts_hogs() {
    local at
    for ((at = 0; at < $1; at++)); do
        taskset -c 0 bash -c 'while :; do :; done' &
        hogs+=($!)
    done
}

# verdicts_expect NAME TEXT: waits for half a minute that worker-0 is said to be that; takes other verdicts down.
verdicts_expect() {
    local until=$((SECONDS + 30)) said=
    : >"$work/others"
    while ((SECONDS < until)); do
        said=$("$larder" why 0 --admin "unix:$work/admin" 2>/dev/null | head -1) || true
        if [[ $said == *"$2"* ]]; then
            printf 'SHOWN      %-14s %s\n' "$1" "$said"
            return 0
        fi
        [[ $said == *"has not gone on"* ]] && echo "$said" >>"$work/others"
    done
    printf 'WRONG      %-14s was never said to be so; said was: %s\n' "$1" "$(sort "$work/others" | tail -1)"
    return 1
}

# Sees to it that there is swap.
verdicts_swap_on() {
    [[ $(awk '/^SwapTotal/ { print $2 }' /proc/meminfo) == 0 ]] || return 0
    fallocate -l 1G "$work/swap" && chmod 600 "$work/swap" && mkswap "$work/swap" >/dev/null || return 1
    swapon "$work/swap" || return 1
    swap=$work/swap
}

# Takes away the swap that was made here; what is in it comes back into memory.
verdicts_swap_off() {
    [[ -z $swap ]] || swapoff "$swap"
    swap=
}

not_shown() {
    printf 'NOT SHOWN  %-14s %s\n' "$1" "$2"
}

# group CONTROLLER: makes a control group, of version 1 or 2; sets `group`.
make_group() {
    local root
    group=
    for root in "/sys/fs/cgroup/$1" /sys/fs/cgroup; do
        if mkdir "$root/larder-claims-$$" 2>/dev/null; then
            group=$root/larder-claims-$$
            return 0
        fi
    done
    return 1
}

# The disk that the swap is on, as the system numbers it: a whole one, also where that is a partition.
verdicts_swap_disk() {
    local file numbers
    file=$(awk 'NR == 2 { print $1 }' /proc/swaps)
    numbers=$(stat -c '%Hd:%Ld' "$file")
    [[ -b $file ]] && numbers=$(stat -c '%Hr:%Lr' "$file")
    if [[ -e /sys/dev/block/$numbers/partition ]]; then
        cat "/sys/dev/block/$numbers/../dev"
    else
        echo "$numbers"
    fi
}

verdicts_page_faulting() {
    local memory_group disk failed=0
    if ! make_group memory; then
        not_shown page-faulting 'no control group can be made here'
        return
    fi
    memory_group=$group
    echo $$ >"$group/cgroup.procs"
    if [[ -e $group/memory.max ]]; then
        echo 33554432 >"$group/memory.max"
    else
        echo 33554432 >"$group/memory.limit_in_bytes"
    fi
    memory=512MiB verdicts_start
    echo $$ >"${group%/*}/cgroup.procs"
    disk=$(verdicts_swap_disk)
    if [[ -e $group/io.max ]]; then
        echo "$disk riops=2" >"$group/io.max"
    elif make_group blkio; then
        echo "$disk 2" >"$group/blkio.throttle.read_iops_device"
        echo "$worker" >"$group/cgroup.procs"
    fi
    verdicts_expect page-faulting 'is page-faulting or swapping' || failed=1
    verdicts_stop
    rmdir "$memory_group" "$group" 2>/dev/null || true
    return $failed
}

verdicts() {
    local failed=0 worker load hogs=() group thread pid
    verdicts_start
    taskset -acp 0 "$worker" >/dev/null
    chrt -a -i -p 0 "$worker"
    verdicts_hogs 4
    verdicts_expect starved 'is starved of CPU' || failed=1
    verdicts_stop

    if make_group cpu; then
        verdicts_start
        taskset -acp 0 "$worker" >/dev/null
        verdicts_hogs 8
        if [[ -e $group/cpu.max ]]; then
            echo '1000 100000' >"$group/cpu.max"
        else
            echo 100000 >"$group/cpu.cfs_period_us"
            echo 1000 >"$group/cpu.cfs_quota_us"
        fi
        for pid in "$worker" "${hogs[@]}"; do echo "$pid" >"$group/cgroup.procs"; done
        verdicts_expect throttled 'is throttled by its control group' || failed=1
        verdicts_stop
        rmdir "$group"
    else
        not_shown throttled 'no control group can be made here'
    fi

    if ! verdicts_swap_on; then
        not_shown page-faulting 'there is no swap here, and none can be made'
    else
        verdicts_page_faulting || failed=1
        verdicts_swap_off
    fi
    return $failed
}
