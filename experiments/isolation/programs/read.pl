# Print each file named.
for my $path (@ARGV) {
    if (open(my $file, "<", $path)) { read($file, my $text, 65536); print $text; }
}
