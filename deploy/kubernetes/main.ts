/** `npm run manifests`: writes the generated files of this folder. */

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { generatedFiles } from "./generated-files.ts";

// Started from the package root, as npm does.
const deploy = path.join(process.cwd(), "deploy");
const alerts = await readFile(path.join(deploy, "prometheus", "alerts.yml"), "utf8");
for (const [name, text] of generatedFiles(alerts)) {
  await writeFile(path.join(deploy, "kubernetes", name), text);
}
