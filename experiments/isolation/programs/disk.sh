# Write as much as possible, N files of one MiB at most: disk N. Prints how much.
mkdir -p disk; n=0
while [ $n -lt "$1" ] && head -c 1048576 /dev/zero >"disk/$n" 2>/dev/null; do n=$((n + 1)); done
echo "WRITTEN $n"
