# Whether the watch over a server under heavy load cries wolf. To be sourced by benches/claims.
#
# A server with a supervisor, a load that never ends, and what is no fault of the server's: its processes
# are stopped by SIGSTOP and continued, together and each alone, for longer and for shorter than
# --stall-warn, and hogs take all cores. Whatever the supervisor then says of a thread is held against what
# was done, and against the kernel's own count of when that thread ran and when it waited for a core:
#
#   is stopped by a signal   true while the worker process was stopped, and until half a second after
#   is starved of CPU        true if the thread ran for less than half of the second before, and, once it
#                            ran again, the kernel says that it had waited for a core for half a second:
#                            that it is slow then is so, and no alarm about the server
#   anything else            false: nothing here spins, blocks, waits for a lock or for a disk for a second
#
# A kill (--stall-kill 2s is given), a death, and a wrong answer are failures, too. Stops of three seconds
# that were not named are counted, and told: the supervisor may itself have got no core meanwhile.

alarms_now_ms() {
    local now=${EPOCHREALTIME/./}
    echo $((now / 1000))
}

# The load: one run after the other until it is told to end. All have the same keys with the same values.
alarms_load() {
    local report
    while [[ ! -e $work/over ]]; do
        report=$("$larder" bench --server "larder://$address" --duration 20s --keys 1M --value-bytes 64..4096 \
            --verify --json "$@" 2>>"$work/load-errors") || true
        echo "$report" >>"$work/loads"
    done
}

# Every fifth of a second: when each thread of the worker process has run and waited, as the kernel counts.
alarms_record() {
    local folder ran waited rest
    while [[ ! -e $work/over ]]; do
        for folder in "/proc/$1/task/"*; do
            { read -r ran waited rest <"$folder/schedstat"; } 2>/dev/null || continue
            echo "$(alarms_now_ms) ${folder##*/} $ran $waited"
        done >>"$work/ran"
        sleep 0.2
    done
}

# Every two seconds: what the supervisor has said. It remembers the last 64 steps.
alarms_listen() {
    local status
    while :; do
        [[ -e $work/over ]] && touch "$work/last-look"
        # 1: no worker goes on, as while the process is stopped.
        if status=$("$larder" status --admin "unix:$work/admin" --json 2>>"$work/status-errors") || [[ $? == 1 ]]; then
            grep -o '{"at_ms":[0-9]*,"pid":[^{}]*"step":[^{}]*}' <<<"$status" >>"$work/steps" || true
            # Those of the first process: if there is a second, that is a failure anyway.
            [[ -s $work/threads ]] ||
                grep -o '"name":"[^"]*","kind":[^{}]*"thread":[0-9]*' <<<"$status" >"$work/threads" || true
            figure "$status" deaths >"$work/deaths"
            figure "$status" stall_kills >"$work/stall-kills"
        fi
        [[ -e $work/last-look ]] && break
        sleep 2
    done
}

# alarms_stop SECONDS PID...: stops processes, and has them go on in the order that is given.
alarms_stop() {
    local seconds=$1 begun
    shift
    begun=$(alarms_now_ms)
    kill -STOP "$@"
    sleep "$seconds"
    local pid
    for pid in "$@"; do kill -CONT "$pid"; done
    echo "$begun $(alarms_now_ms) $seconds $*" >>"$work/stops"
}

# alarms_hogs PER-CORE SECONDS: takes the cores.
alarms_hogs() {
    local hogs=() pid
    for ((at = 0; at < $1 * $(nproc); at++)); do
        (exec timeout "$2" bash -c 'while :; do :; done') &
        hogs+=($!)
    done
    for pid in "${hogs[@]}"; do wait "$pid" || true; done
}

# One round of everything, in about two minutes.
alarms_round() {
    local worker=$1 hogs
    sleep 10
    alarms_stop 3 "$worker"
    sleep 3
    alarms_stop 3 "$server"
    sleep 3
    alarms_stop 3 "$worker" "$server"
    sleep 3
    alarms_stop 3 "$server" "$worker"
    sleep 3
    local at
    for at in 1 2 3 4 5 6 7 8; do
        # Where others have the cores, it becomes longer, and may be named.
        alarms_stop 0.7 "$worker"
        sleep 0.3
    done
    alarms_hogs 4 15
    alarms_hogs 24 15
    # Stopped and continued while others have the cores.
    alarms_hogs 8 20 &
    hogs=$!
    sleep 2
    alarms_stop 3 "$worker"
    sleep 3
    alarms_stop 3 "$worker" "$server"
    wait "$hogs"
}

# alarms_judge: holds each step against what was so; prints the false ones, and what was named how often.
alarms_judge() {
    sort -u "$work/steps" 2>/dev/null >"$work/said" || true
    touch "$work/said" "$work/stops"
    awk -v worker="$1" '
        function text(line, name,    parts) {
            if (!match(line, "\"" name "\":\"[^\"]*\"")) return ""
            return substr(line, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
        }
        function number(line, name) {
            if (!match(line, "\"" name "\":[0-9]+")) return 0
            return substr(line, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
        }
        function was_stopped(at,    stop) {
            for (stop in begun)
                if (of_worker[stop] && at >= begun[stop] && at <= ended[stop] + 500) {
                    is_named[stop] = 1
                    return 1
                }
            return 0
        }
        function was_starved(at, tid,    i, before, then, after) {
            before = then = after = 0
            for (i = 1; i <= samples[tid]; i++) {
                if (time[tid, i] <= at - 1000) before = i
                if (time[tid, i] <= at) then = i
                if (time[tid, i] > at && !after && ran[tid, i] > ran[tid, then]) after = i
            }
            if (!before || !after) return 0
            return ran[tid, then] - ran[tid, before] < 500e6 && waited[tid, after] - waited[tid, before] >= 500e6
        }
        FILENAME ~ /threads$/ { name = text($0, "name"); tids[name] = number($0, "thread"); next }
        FILENAME ~ /ran$/ { n = ++samples[$2]; time[$2, n] = $1; ran[$2, n] = $3; waited[$2, n] = $4; next }
        FILENAME ~ /stops$/ {
            begun[FNR] = $1; ended[FNR] = $2
            for (i = 4; i <= NF; i++) if ($i == worker) of_worker[FNR] = 1
            stops += of_worker[FNR]; all_stops++
            # Of a supervisor that was stopped as well, nothing can be expected, and nothing has to be said of what
            # was shorter than --stall-warn.
            if (of_worker[FNR] && NF == 4 && $3 >= 3) { alone[FNR] = 1; stops_alone++ }
            next
        }
        {
            step = text($0, "step"); said = text($0, "sentence"); at = number($0, "at_ms")
            steps[step]++
            if (step != "named" && step != "killed") next
            if (said ~ /is stopped by a signal/) { kind = "stopped"; good = was_stopped(at) }
            else if (said ~ /is starved of CPU/) { kind = "starved"; good = was_starved(at, tids[text($0, "thread")]) }
            else { kind = "else"; good = 0 }
            if (step == "killed") good = 0
            count[kind]++
            if (!good) { false_ones++; printf "FALSE at %.0f: %s: %s\n", at, step, said }
        }
        END {
            for (stop in alone) named_alone += is_named[stop]
            printf "%d stops of the worker process, %d of them long and alone, of which %d were named; %d of the supervisor\n",
                stops, stops_alone, named_alone, all_stops - stops
            printf "named: %d stopped, %d starved, %d else; false: %d\n",
                count["stopped"], count["starved"], count["else"], false_ones
            exit false_ones > 0
        }' "$work/threads" "$work/ran" "$work/stops" "$work/said"
}

alarms() {
    local minutes=$1 worker until rounds=0 wrong failed=0 pids=()
    workers=2 cores=env log=info start_two 127.0.0.1:0 --memory 256MiB --admin "unix:$work/admin" \
        --evidence "$work/evidence" --stall-kill 2s 2>"$work/log"
    worker=$(<"/proc/$server/task/$server/children")
    worker=${worker// /}
    alarms_load --ratio 3:1 --connections 50 --depth 16 & pids+=($!)
    alarms_load --ratio 1:1 --connections 10 --depth 1 & pids+=($!)
    alarms_record "$worker" & pids+=($!)
    alarms_listen & pids+=($!)
    until=$((SECONDS + minutes * 60))
    while ((SECONDS < until)); do
        alarms_round "$worker"
        rounds=$((rounds + 1))
        echo "round $rounds: $(wc -l <"$work/loads") loads done, load average $(cut -d' ' -f1-3 /proc/loadavg)"
    done
    touch "$work/over"
    wait "${pids[@]}"
    [[ -n ${KEEP:-} ]] && cp -r "$work" "$KEEP"
    wrong=$(grep -o '"wrong":[0-9]*' "$work/loads" | awk -F: '{ sum += $2 } END { print sum + 0 }')
    printf '%s rounds in %s minutes; %s operations, %s wrong answers; %s deaths, %s kills\n' "$rounds" "$minutes" \
        "$(grep -o '"operations":[0-9]*,"operations_per' "$work/loads" | awk -F'[:,]' '{ sum += $2 } END { printf "%.0f", sum }')" \
        "$wrong" "$(<"$work/deaths")" "$(<"$work/stall-kills")"
    alarms_judge "$worker" || failed=1
    ((wrong == 0 && $(<"$work/deaths") == 0 && $(<"$work/stall-kills") == 0)) || failed=1
    stop
    return $failed
}
