// Hold as much memory as possible, N MiB at most: memory N. Prints how much, again and again.
const held = [];
for (let i = 1; i <= Number(process.argv[2]); i++) {
  held.push(Buffer.alloc(1 << 20, 1));
  if (i % 16 === 0) require("fs").writeSync(1, `TOUCHED ${i}\n`);
}
