# Hold as much memory as possible, N MiB at most: memory N. Prints how much, again and again.
$| = 1;
my @held;
for my $i (1 .. $ARGV[0]) { push @held, "x" x 1048576; print "TOUCHED $i\n" if $i % 16 == 0; }
