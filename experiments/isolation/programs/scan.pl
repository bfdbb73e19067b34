# Print the environment and the open regular files of every process in sight.
print "$_=$ENV{$_}\n" for keys %ENV;
for my $path (glob("/proc/[0-9]*/environ"), glob("/proc/[0-9]*/fd/*")) {
    next unless -f $path && -s _ < 65536 || $path =~ /environ$/;
    if (open(my $file, "<", $path)) { read($file, my $text, 65536); print $text if defined $text; }
}
