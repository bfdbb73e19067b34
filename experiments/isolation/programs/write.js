// Append a word to each file named: write WORD PATH...
const fs = require("fs");
const [word, ...paths] = process.argv.slice(2);
for (const path of paths) fs.appendFileSync(path, word);
