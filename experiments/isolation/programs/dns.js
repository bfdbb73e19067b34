// Ask a name server for a name that carries a word: dns HOST PORT WORD
const [host, port, word] = process.argv.slice(2);
const parts = [word, "example", "org"].map((part) => Buffer.concat([Buffer.from([part.length]), Buffer.from(part)]));
const head = Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
const packet = Buffer.concat([head, ...parts, Buffer.from([0, 0, 1, 0, 1])]);
require("dgram").createSocket("udp4").send(packet, Number(port), host, () => process.exit(0));
