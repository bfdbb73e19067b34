# Print each file named.
for path; do cat "$path" 2>/dev/null; done
