# Send a word: send tcp|udp HOST PORT WORD. Prints what comes back.
exec 3<>"/dev/$1/$2/$3" || exit 1
printf %s "$4" >&3
[ "$1" = tcp ] && head -c 64 <&3
true
