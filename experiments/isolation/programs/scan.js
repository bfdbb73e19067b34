// Print the environment and the open regular files of every process in sight.
const fs = require("fs");
process.stdout.write(JSON.stringify(process.env));
for (const pid of fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
  const paths = [`/proc/${pid}/environ`];
  try { for (const name of fs.readdirSync(`/proc/${pid}/fd`)) paths.push(`/proc/${pid}/fd/${name}`); } catch {}
  for (const path of paths) {
    try {
      const status = fs.statSync(path);
      if (status.isFile() && status.size < 65536) process.stdout.write(fs.readFileSync(path));
    } catch {}
  }
}
