// Leave a process behind that ignores signals and whose command line holds a word: daemon WORD
const { spawn } = require("child_process");
const code = "for (const name of ['SIGTERM','SIGHUP','SIGINT']) process.on(name, () => {}); setInterval(() => {}, 200)";
spawn(process.execPath, ["-e", code, process.argv[2]], { detached: true, stdio: "ignore" }).unref();
setTimeout(() => console.log("STARTED"), 500);
