# Runs on the server of the containers, detached from whoever asked: brings containers back, whatever becomes of us.
#   guard.sh ID HOW LIMIT PATIENCE ENTRY...
# HOW is stop, pause, or repair: only see to what guards have left that are dead, for their server went down with them.
# ENTRY is "CONTAINER STARTED NAME": its id, since when it runs, its name; in the order in which they were started.
# Standard input: "." is a sign of life, "x" asks for the containers; its end, PATIENCE seconds of silence, or LIMIT
# seconds in all do the same. Standard output: a line for each thing that happened, the last one "end WHY".
set -u
trap '' HUP INT PIPE
trap 'why=terminated' TERM
id=$1 how=$2 limit=$3 patience=$4
shift 4
notes=${HOME:-/var/tmp}/.local/state/prefect-backups/stopped
note=$notes/$id why= tries=10
[ "$how" != repair ] || tries=1

# say WORD...: one line, for whoever still listens.
say() { { printf '%s' "$*" | tr '\n' ' ' && echo; } 2>/dev/null || :; }

# look CONTAINER: "STARTED STATUS", such as "2026-11-23T03:00:00Z running".
look() { docker container inspect --format '{{.State.StartedAt}} {{.State.Status}}' "$1" 2>&1 </dev/null; }

halt() {
    said=$(docker "$how" "$1" 2>&1 </dev/null) || {
        say "unstopped $2 $said"
        why=unstopped
    }
}

# resume HOW CONTAINER STARTED NAME: bring one back. It is ours only while it was not started since we looked.
resume() {
    attempts=0
    while :; do
        seen=$(look "$2")
        case $1,$seen in
            *,*"o such container"*) said="it was removed" ;;
            stop,"$3 exited" | stop,"$3 dead") said=$(docker start "$2" 2>&1 </dev/null) && say "started $4" && return ;;
            pause,"$3 paused") said=$(docker unpause "$2" 2>&1 </dev/null) && say "started $4" && return ;;
            *,*" running" | *,*" restarting") [ "$attempts" -eq 0 ] && say "early $4" || say "started $4" && return ;;
            *,*"Z exited" | *,*"Z paused" | *,*"Z dead") said="somebody else has started and stopped it" ;;
            *) said=$seen ;;
        esac
        case $said in "it was removed" | "somebody else"*) say "failed $4 $said" && return ;; esac
        [ "$attempts" -lt "$tries" ] || { say "failed $4 $said" && return 1; }
        attempts=$((attempts + 1))
        sleep 1
    done
}

# back NOTE: bring back all that it names. The note stays where one could not be: the next guard tries again.
back() {
    {
        read -r was
        : >"$1.failed"
        while read -r container started name; do
            resume "$was" "$container" "$started" "$name" || echo "$name" >>"$1.failed"
        done
    } <"$1" || return
    [ -s "$1.failed" ] || rm -f "$1"
    rm -f "$1.failed"
}

# stays ENTRY...: say which containers have ended again as soon as they were started.
stays() {
    sleep 1
    for entry in "$@"; do
        case $(look "${entry%% *}") in
            *" running" | *" paused" | *"o such container"*) ;;
            *) say "failed ${entry##* } it ended as soon as it was started" ;;
        esac
    done
}

# lives NOTE: whether its guard runs, which has the name of the note among its arguments.
lives() { echo "${1##*/}" | grep -qsFf - /proc/[0-9]*/cmdline; }

if [ "$how" = repair ]; then
    for old in "$notes"/*; do
        case $old in *.failed | *.new) continue ;; esac
        [ -f "$old" ] && ! lives "$old" && back "$old"
    done
    say "end repaired" && exit
fi

mkdir -p "$notes" && printf '%s\n' "$how" "$@" >"$note.new" && mv "$note.new" "$note" || exit
sync "$note" 2>/dev/null || sync

reversed=
for entry in "$@"; do
    reversed="$entry
$reversed"
done
while read -r container started name; do
    [ -z "$container$why" ] || [ -n "$why" ] || halt "$container" "$name"
done <<END
$reversed
END
[ -n "$why" ] || say "stopped"

end=$(($(date +%s) + limit))
while [ -z "$why" ]; do
    left=$((end - $(date +%s)))
    [ "$left" -gt 0 ] || { why=late && break; }
    [ "$left" -lt "$patience" ] || left=$patience
    byte=$(timeout "$left" dd bs=1 count=1 2>/dev/null)
    code=$?
    case $byte in
        .) ;;
        x) why=asked ;;
        *) [ -n "$why" ] || { [ "$code" -eq 0 ] && why=gone || why=silent; } ;;
    esac
done
[ "$why" != silent ] || [ "$(date +%s)" -lt "$end" ] || why=late
back "$note"
stays "$@"
say "end $why"
