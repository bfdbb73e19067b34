// Write as much as possible, N files of one MiB at most: disk N. Prints how much.
const fs = require("fs");
fs.mkdirSync("disk", { recursive: true });
let written = 0;
try {
  for (; written < Number(process.argv[2]); written++) fs.writeFileSync(`disk/${written}`, Buffer.alloc(1 << 20));
} catch {}
console.log("WRITTEN", written);
