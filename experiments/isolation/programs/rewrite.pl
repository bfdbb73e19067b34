# Write a file's own content back to it, and say so if the kernel took it.
for my $path (@ARGV) {
    open(my $in, "<", $path) or die $!; my $content = <$in>;
    open(my $out, ">", $path) or die $!;
    (defined syswrite($out, $content)) or die $!;
    print "REWRITTEN $path\n";
}
