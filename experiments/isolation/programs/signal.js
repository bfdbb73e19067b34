// Kill the processes named by their host ids.
for (const pid of process.argv.slice(2)) process.kill(Number(pid), "SIGKILL");
