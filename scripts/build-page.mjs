// Bundles the coordinator's status page, for browsers: names are fixed, browsers ask whether they have changed.
import { copyFileSync, mkdirSync } from "node:fs";
import { build } from "esbuild";

const from = "coordinator/page";
const to = "dist/coordinator/page";

mkdirSync(to, { recursive: true });
await build({
  entryPoints: [
    { in: `${from}/start-page.tsx`, out: "page" },
    { in: `${from}/page.css`, out: "page" },
  ],
  outdir: to,
  bundle: true,
  format: "esm",
  target: ["chrome111", "firefox114", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "none",
  logLevel: "warning",
});
for (const file of ["index.html", "icon.svg"]) copyFileSync(`${from}/${file}`, `${to}/${file}`);
