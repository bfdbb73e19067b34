# Print the environment and the open regular files of every process in sight.
env
for folder in /proc/[0-9]*; do
    tr '\0' '\n' <"$folder/environ" 2>/dev/null
    for file in "$folder"/fd/*; do
        [ -f "$file" ] && [ "$(stat -Lc %s "$file")" -lt 65536 ] && cat "$file" 2>/dev/null
    done
done
true
