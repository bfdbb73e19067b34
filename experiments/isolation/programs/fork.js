// Have as many children as possible at one time, N at most: fork N. Prints how many there were.
const { spawn } = require("child_process");
const children = [];
let failed = false;
for (let i = 0; i < Number(process.argv[2]) && !failed; i++) {
  try {
    const child = spawn("sleep", ["20"], { stdio: "ignore" });
    child.on("error", () => {});
    if (child.pid === undefined) failed = true; else children.push(child);
  } catch { failed = true; }
}
console.log("ALIVE", children.length);
for (const child of children) child.kill("SIGKILL");
process.exit(0);
