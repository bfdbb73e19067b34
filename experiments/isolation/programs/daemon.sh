# Leave a process behind that ignores signals and whose command line holds a word: daemon WORD
(setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 0.2; done' "$1" >/dev/null 2>&1 </dev/null &)
sleep 0.3
echo STARTED
