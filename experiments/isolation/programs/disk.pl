# Write as much as possible, N files of one MiB at most: disk N. Prints how much.
mkdir "disk"; my $written = 0;
while ($written < $ARGV[0]) {
    open(my $file, ">", "disk/$written") or last;
    (syswrite($file, "\0" x 1048576) // 0) == 1048576 or last;
    close($file); $written++;
}
print "WRITTEN $written\n";
