# Have as many children as possible at one time, N at most: fork N. Prints how many there were.
my @children;
for (1 .. $ARGV[0]) {
    my $child = fork;
    last unless defined $child;
    if ($child == 0) { sleep 20; exit; }
    push @children, $child;
}
$| = 1; print "ALIVE ", scalar(@children), "\n";
kill "KILL", @children;
