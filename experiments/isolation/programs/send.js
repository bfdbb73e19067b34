// Send a word: send tcp|udp|unix HOST PORT WORD. Prints what comes back.
const [kind, host, port, word] = process.argv.slice(2);
setTimeout(() => process.exit(1), 3000);
if (kind === "udp") {
  require("dgram").createSocket("udp4").send(word, Number(port), host, (error) => process.exit(error ? 1 : 0));
} else {
  const place = kind === "unix" ? { path: "\0" + host } : { host, port: Number(port) };
  const link = require("net").connect(place, () => link.write(word));
  link.on("data", (reply) => { process.stdout.write(reply); process.exit(0); });
  link.on("error", (error) => { console.error(error.message); process.exit(1); });
}
