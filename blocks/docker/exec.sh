# Runs in a container, where the first process may be a database server: runs one tool, and ends it when we are gone.
#   exec.sh MARK INPUT OUTPUT DIRECTORY LOW [NAME=VALUE...] TOOL [ARGUMENT...]
# Standard input is the line to us: frames of data for the tool ("LENGTH\n" and so many bytes), and "end" when its input
# is whole. When the line ends, we are gone: the tool is ended first, and only then the pipe to it is closed, so that it
# never takes what it has for all there is.
#
# MARK is printed before the tool's output, and with its status behind it: so output that was cut off is known as such.
# Docker may drop what was printed right before our end. So we stay until the line ends: it is known then that all has
# come. Not for ever, for whoever still writes learns only from our end that nobody reads.
#
# Nothing that is killed here may be left to the container's first process: PostgreSQL takes an adopted child that a
# signal has ended for a crash of one of its own, and restarts. So everybody waits for whom he has started; a tool is
# asked to end (TERM) before it is killed, for only it can end what it has started itself; and what a script has started
# is left to come to its own end.
mark=$1 input=$2 output=$3 directory=$4
eval "$5" # sets low, what goes before a tool of low priority
shift 5
trap '' PIPE HUP INT
lost=
tool=

# passed: hand the frames on, until the input is whole.
passed() {
    while read -r frame; do
        [ "$frame" != end ] || return 0
        dd bs="$frame" count=1 iflag=fullblock 2>/dev/null || {
            cat >/dev/null # it has ended without reading all
            return 1
        }
    done
    return 1
}

# Whether the process PID lives: a zombie does not, and its number is not given to another one.
lives() {
    read -r stat <"/proc/$1/stat" || return 1
    case ${stat##*) } in [ZX]*) return 1 ;; esac
}

# Whether PID has left our process group: then it ends by itself when its input does, and has something to clean up.
apart() {
    read -r stat <"/proc/$1/stat" && read -r own <"/proc/$$/stat" || return 1
    stat=${stat##*) } own=${own##*) }
    stat=${stat#* * } own=${own#* * }
    [ "${stat%% *}" != "${own%% *}" ]
}

# End the tool; nothing reads what it still writes.
end() {
    lost=1
    [ -n "$tool" ] || return
    if apart "$tool"; then
        kill -KILL "$line"
        return
    fi
    kill -TERM "$tool"
    seconds=0
    while lives "$tool"; do
        [ "$seconds" -lt 10 ] || kill -KILL "$tool"
        seconds=$((seconds + 1))
        sleep 1
    done
}

# known: wait for the end of the line, for a while.
known() {
    sleep 3 &
    wait "$!"
    kill -KILL "$!"
    wait "$!"
}

exec 3<&0 4>&2 7>&1 </dev/null 2>/dev/null
[ "$output" = yes ] && exec 5>&1 || exec 5>/dev/null
printf '%s\n' "$mark"
last=
trap 'lost=1; [ -z "$last" ] || kill -TERM "$last"' TERM
{
    exec 4>&- 5>&- 7>&-
    sh -c 'echo "$PPID"'
    if [ "$input" = yes ]; then
        passed && exec >/dev/null
    else
        exec >/dev/null
    fi
    cat >/dev/null
    kill -TERM "$$"
    while :; do sleep 1 >/dev/null; done # until we are killed: the pipe stays open so long
} <&3 3<&- | {
    trap end TERM
    exec 3<&- 6<&0
    read -r line
    {
        exec 2>&4 4>&- 7>&-
        [ -z "$directory" ] || cd -- "$directory" || exit 126
        exec $low env -i PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}" HOME="${HOME:-/}" ${TMPDIR:+TMPDIR="$TMPDIR"} "$@"
    } <&6 6<&- >&5 5>&- &
    tool=$!
    exec 6<&- </dev/null 5>&-
    [ -z "$lost" ] || end
    wait "$tool"
    code=$?
    [ -z "$lost" ] || { wait "$tool"; code=$?; }
    trap 'lost=1' TERM
    exec 4>&-
    printf '%s %s\n' "$mark" "$code" >&7
    exec 7>&-
    [ -n "$lost" ] || known
    kill -KILL "$line"
    exit "$code"
} &
last=$!
exec 3<&- >/dev/null 4>&- 5>&- 7>&-
[ -z "$lost" ] || kill -TERM "$last"
wait "$last"
code=$?
[ -z "$lost" ] || { wait "$last"; code=$?; }
wait
exit "$code"
