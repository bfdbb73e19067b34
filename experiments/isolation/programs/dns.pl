# Ask a name server for a name that carries a word: dns HOST PORT WORD
use Socket;
my ($host, $port, $word) = @ARGV;
my $question = join("", map { chr(length) . $_ } $word, "example", "org") . "\0";
socket(LINK, PF_INET, SOCK_DGRAM, 0) or die $!;
send(LINK, pack("n6", 7, 0x100, 1, 0, 0, 0) . $question . pack("n2", 1, 1), 0, sockaddr_in($port, inet_aton($host)));
