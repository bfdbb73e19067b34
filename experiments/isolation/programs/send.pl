# Send a word: send tcp|udp|unix HOST PORT WORD. Prints what comes back.
use Socket;
my ($kind, $host, $port, $word) = @ARGV;
alarm 3;
if ($kind eq "unix") {
    socket(LINK, PF_UNIX, SOCK_STREAM, 0) or die $!;
    connect(LINK, pack("S a*", AF_UNIX, "\0$host")) or die $!;
} else {
    socket(LINK, PF_INET, $kind eq "tcp" ? SOCK_STREAM : SOCK_DGRAM, 0) or die $!;
    connect(LINK, sockaddr_in($port, inet_aton($host))) or die $!;
}
syswrite(LINK, $word) or die $!;
sysread(LINK, my $reply, 64);
print $reply;
