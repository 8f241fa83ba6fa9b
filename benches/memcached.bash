# The peer of the measurements over loopback, and what all of them do with figures. To be sourced.
#
# memcached is installed with apt-get where it is missing and that is possible. Versions differ much:
# up to some 1.6.x, Debian 12's 1.6.18 among them, every GET reply is a write of its own, also in a
# pipeline. MEMCACHED=PATH measures another build.

# Elsewhere a comma may be what a point is here, in EPOCHREALTIME, to awk and to sort -n.
export LC_ALL=C

# find_program VARIABLE PATH PROGRAM PACKAGE: sets the variable to the path that is given, or to where the
# program is, with apt-get's help; to nothing where there is none.
find_program() {
    local -n found=$1
    found=${2:-$(command -v "$3" || true)}
    if [[ -z $found && $EUID == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing $4 with apt-get" >&2
        local install=(apt-get install -y --no-install-recommends "$4")
        "${install[@]}" >&2 || { apt-get update >&2 && "${install[@]}" >&2; } || true
        found=$(command -v "$3" || true)
    fi
}

# find_memcached: sets `memcached`, to nothing where there is none.
find_memcached() {
    find_program memcached "${MEMCACHED:-}" memcached memcached
}

# start_memcached FOLDER OPTION...: starts it with one thread on core 0 and a free port; sets
# `memcached_pid` and `memcached_url`.
start_memcached() {
    local as=() tries port
    [[ $EUID == 0 ]] && as=(-u root)
    MEMCACHED_PORT_FILENAME=$1/ports taskset -c 0 "$memcached" "${as[@]}" \
        -l 127.0.0.1 -p -1 -U 0 -t 1 "${@:2}" &
    memcached_pid=$!
    for ((tries = 0; tries < 100; tries++)); do
        [[ -s $1/ports ]] && break
        sleep 0.05
    done
    port=$(sed -n 's/^TCP INET: //p' "$1/ports") || return
    memcached_url=memcached://127.0.0.1:$port
    "$memcached" -V
}

# figure REPORT NAME: one number of a report.
figure() {
    grep -o "\"$2\":[0-9.]*" <<<"$1" | head -1 | cut -d: -f2
}

# median FILE: of a number on each line.
median() {
    sort -n "$1" | awk '{ all[NR] = $1 } END { printf "%.0f", all[int((NR + 1) / 2)] }'
}
