# Leave a process behind that ignores signals and whose command line holds a word: daemon WORD
use POSIX qw(setsid);
if (fork == 0) {
    setsid();
    if (fork == 0) {
        close(STDIN); close(STDOUT); close(STDERR);
        exec($^X, "-e", '$SIG{$_} = "IGNORE" for qw(TERM HUP INT); select(undef, undef, undef, 0.2) while 1', $ARGV[0]);
    }
    exit;
}
select(undef, undef, undef, 0.5);
print "STARTED\n";
