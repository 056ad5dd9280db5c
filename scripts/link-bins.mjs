// Makes `npx coordinator` and `npx worker` run the build in a checkout, where npm links no bins: without
// the links npx would install the package into its cache first. tsc writes files without the
// executable bit.
import { chmodSync, existsSync, readFileSync, rmSync, symlinkSync } from "node:fs";

const { bin } = JSON.parse(readFileSync("package.json", "utf8"));
const folder = "node_modules/.bin";
for (const [name, file] of Object.entries(bin)) {
  chmodSync(file, 0o755);
  if (!existsSync(folder)) continue;
  rmSync(`${folder}/${name}`, { force: true });
  symlinkSync(`../../${file}`, `${folder}/${name}`);
}
