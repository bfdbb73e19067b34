// Print each file named.
const fs = require("fs");
for (const path of process.argv.slice(2)) {
  try { process.stdout.write(fs.readFileSync(path)); } catch (error) { console.error(error.message); }
}
