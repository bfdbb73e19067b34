# Open as many descriptors as possible, N at most: descriptors N. Prints how many.
my @held;
while (@held < $ARGV[0]) { open(my $file, "<", "/dev/null") or last; push @held, $file; }
print "OPENED ", scalar(@held), "\n";
