/** `npm run dashboards`: writes the dashboards' JSON beside their sources. */

import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { dashboardFiles } from "./dashboards.ts";

// Started from the package root, as npm does.
const folder = path.join(process.cwd(), "deploy", "grafana", "dashboards");
await mkdir(folder, { recursive: true });
for (const [name, text] of dashboardFiles()) await writeFile(path.join(folder, name), text);
