# Print a GiB.
head -c 1073741824 /dev/zero
