# Kill the processes named by their host ids.
kill("KILL", $_) or warn $! for @ARGV;
