/** The project's own TypeScript files, as the house rules see them. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** Tests run from the package root, be it in source form or from dist/. */
export const ROOT = process.cwd();
export const AREAS = ["proto", "coordinator", "worker", "deploy", "test"] as const;

/** Written by a tool: its form is the tool's affair. */
const GENERATED = /^proto\/gen\//;

export interface Source {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** Every source of the areas but the generated ones. */
export function readSources(): Source[] {
  return AREAS.flatMap(readArea);
}

/** First part of a path: one of the areas. */
export function areaOf(file: string): string {
  return file.split("/", 1)[0] ?? "";
}

/** Folder directly under the area; the empty string for a file that lies in the area itself. */
export function folderOf(file: string): string {
  const parts = file.split("/");
  return parts.length > 2 ? (parts[1] ?? "") : "";
}

/** Paths, relative to the repository, of what `source` imports from its own package. */
export function ownImports({ path: file, text }: Source): string[] {
  return specifiers(text)
    .filter((name) => name.startsWith("."))
    .map((name) => path.posix.join(path.posix.dirname(file), name));
}

/** Names of the packages and node: modules that `source` imports, without paths inside them. */
export function packageImports({ text }: Source): string[] {
  return specifiers(text)
    .filter((name) => !name.startsWith("."))
    .map((name) =>
      name
        .split("/")
        .slice(0, name.startsWith("@") ? 2 : 1)
        .join("/"),
    );
}

/**
 * Of `import ... from "x"`, `export ... from "x"`, `import "x"`, `import("x")` and thread names.
 */
function specifiers(text: string): string[] {
  const pattern =
    /\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"|\bstartThread\(\s*"([^"]+)"/gm;
  return [...text.matchAll(pattern)].map((match) => match.slice(1).find(Boolean) ?? "");
}

function readArea(area: string): Source[] {
  return readdirSync(path.join(ROOT, area), { recursive: true, encoding: "utf8" })
    .filter((name) => /(?<!\.d)\.tsx?$/.test(name))
    .map((name) => path.posix.join(area, ...name.split(path.sep)))
    .filter((name) => !GENERATED.test(name))
    .map((name) => ({ path: name, text: readFileSync(path.join(ROOT, name), "utf8") }));
}
