# Hold as much memory as possible, N MiB at most: memory N. Prints how much, again and again.
word=$(head -c 1048576 /dev/zero | tr '\0' x)
held=; n=0
while [ $n -lt "$1" ]; do
    held="$held$word"; n=$((n + 1))
    [ $((n % 16)) -eq 0 ] && echo "TOUCHED $n"
done
