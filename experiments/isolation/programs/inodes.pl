# Make as many empty files as possible, N at most: inodes N. Prints how many.
mkdir "inodes"; my $made = 0;
while ($made < $ARGV[0]) { open(my $file, ">", "inodes/$made") or last; close($file); $made++; }
print "MADE $made\n";
