# Kill the processes named by their host ids.
for pid; do kill -9 "$pid"; done
