# Print a GiB.
my $piece = "\0" x 1048576;
for (1 .. 1024) { print $piece; }
