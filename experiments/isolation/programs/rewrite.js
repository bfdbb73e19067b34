// Write a file's own content back to it, and say so if the kernel took it.
const fs = require("fs");
for (const path of process.argv.slice(2)) {
  const content = fs.readFileSync(path);
  fs.writeFileSync(path, content);
  console.log("REWRITTEN", path);
}
