# Write a file's own content back to it, and say so if the kernel took it.
for path; do
    content=$(cat "$path") && [ -n "$content" ] && printf '%s\n' "$content" >"$path" && echo "REWRITTEN $path"
done
