/** The Dockerfile by its text; `image.test.ts` runs what it describes. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { validate } from "dockerfile-utils";
import {
  DOCKERFILE,
  imageConfig,
  lineage,
  readDockerfile,
  type Stage,
  TARGETS,
} from "../support/dockerfile.ts";
import { keptPackages } from "../support/scratch-root.ts";
import { ROOT } from "../support/sources.ts";
import { complaintsOf, DOCKERFILE_RULES, finalStages } from "./dockerfile-rules.ts";

/** Machine in the header of an ELF file. */
const X86_64 = 0x3e;
const VERSION_NEEDED = /\b(GLIBC|GLIBCXX)_(\d+)\.(\d+)(?:\.(\d+))?\0/g;
/** What Ubuntu 20.04 has. */
const OFFERED = { GLIBC: [2, 31, 0], GLIBCXX: [3, 4, 28] } as const;

const read = (...names: string[]): string => readFileSync(path.join(ROOT, ...names), "utf8");

describe("the Dockerfile", function () {
  this.timeout(20_000);
  const text = readFileSync(DOCKERFILE, "utf8");
  const stages = readDockerfile();
  const configOf = (target: string) => imageConfig(lineage(stages, target));

  it("is valid", () => {
    const problems = validate(text).map(({ message, range }) => `${range.start.line}: ${message}`);
    assert.deepEqual(problems, []);
    assert.notDeepEqual(validate("FROM a:1\nEXPOSE port\n"), []);
  });

  for (const [code, rule] of Object.entries(DOCKERFILE_RULES)) {
    it(`keeps ${code}: ${rule.meaning}`, () => {
      assert.deepEqual(complaintsOf(rule, text), []);
      assert.equal(complaintsOf(rule, rule.broken).length, 1, rule.broken);
    });
  }

  it("has scripts that shellcheck has nothing against", () => {
    assert.deepEqual(shellProblems(stages), []);
    assert.match(shellProblems(readDockerfile("FROM a:1\nRUN rm $b")).join(), /SC2086/);
  });

  it("ends in the three images, which differ in nothing but what they must", () => {
    assert.deepEqual(
      finalStages(stages).map(({ name }) => name),
      TARGETS,
    );
    const { version } = JSON.parse(read("package.json")) as { version: string };
    for (const target of TARGETS) {
      const { user, labels, env } = configOf(target);
      assert.equal(user, "10001:10001");
      assert.equal(labels["org.opencontainers.image.version"], version);
      assert.equal(labels["org.opencontainers.image.licenses"], "Apache-2.0");
      assert.deepEqual(env, { NODE_ENV: "production", HOME: "/tmp" });
    }
    const [cpu, gpu] = [configOf("worker-cpu"), configOf("worker-gpu")];
    assert.deepEqual(gpu.healthcheck, cpu.healthcheck);
    assert.deepEqual(
      gpu.cmd.filter((word) => word !== "--engine" && word !== "tfjs:node-gpu"),
      cpu.cmd,
    );
  });

  it("exposes the ports that the commands listen on, and asks one of them for its health", () => {
    for (const target of TARGETS) {
      const { ports, cmd, healthcheck } = configOf(target);
      const asked = Number(/127\.0\.0\.1:(\d+)\/healthz/.exec(healthcheck.join(" "))?.[1]);
      assert.ok(ports.includes(asked), target);
      const given = cmd.filter((_, i) => /-port$/.test(cmd[i - 1] ?? "")).map(Number);
      const known = target === "coordinator" ? [50_051, 9_464] : given;
      assert.deepEqual(ports, known, target);
    }
  });

  it("copies what there is, and what the ignore file lets through", () => {
    const allowed = read(".dockerignore").split("\n");
    assert.ok(allowed.includes("*"));
    for (const { steps } of stages) {
      for (const { text: files } of steps.filter(
        (step) => step.keyword === "COPY" && !step.flags["from"],
      )) {
        for (const source of files.split(" ").slice(0, -1)) {
          assert.ok(existsSync(path.join(ROOT, source)), source);
          assert.ok(allowed.includes(`!${source}`), `${source} is ignored`);
        }
      }
    }
  });

  it("has native packages that run on the glibc of its oldest base", async () => {
    const libraries = (await keptPackages())
      .flatMap((folder) => filesIn(path.join(ROOT, folder)))
      .filter((file) => /\.(node|so[.\d]*)$/.test(file))
      .map((file) => ({ file, text: readFileSync(file, "latin1") }))
      .filter(({ text }) => text.startsWith("\x7fELF") && text.charCodeAt(18) === X86_64);
    assert.ok(libraries.length >= 5);
    for (const { file, text } of libraries) {
      for (const [, name, major, minor, patch = "0"] of text.matchAll(VERSION_NEEDED)) {
        const needed = [major, minor, patch].map(Number);
        const offered = OFFERED[name as keyof typeof OFFERED];
        assert.ok(isAtMost(needed, offered), `${file}: ${name}_${needed.join(".")}`);
      }
    }
  });

  it("takes a Node.js that the package supports, and CUDA as the GPU engine wants it", () => {
    const bases = stages.map(({ base }) => base).join("\n");
    const [, version = ""] = /^node:(\S+?)-/m.exec(bases) ?? [];
    assert.equal(version.split(".")[0], process.versions.node.split(".")[0]);
    const [, cuda] =
      /CUDA = "CUDA ([\d.]+) and/.exec(read("worker/engine/tfjs/native/open-native.ts")) ?? [];
    assert.ok(cuda);
    assert.match(
      bases,
      new RegExp(`^nvidia/cuda:${cuda.replace(".", "\\.")}\\.\\d+-cudnn8-runtime-`, "m"),
    );
  });
});

function filesIn(folder: string): readonly string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

function isAtMost(version: readonly number[], limit: readonly number[]): boolean {
  const place = version.findIndex((part, i) => part !== limit[i]);
  return place === -1 || (version[place] ?? 0) < (limit[place] ?? 0);
}

/** Of all scripts at once: each would cost the start of a process. */
function shellProblems(stages: readonly Stage[]): readonly string[] {
  const scripts = stages
    .flatMap(({ steps }) => steps.filter(({ keyword }) => keyword === "RUN"))
    .map(({ text }, i) => `step${i}() {\n${text}\n}\nstep${i}\n`);
  try {
    execFileSync("shellcheck", ["--shell=sh", "--format=gcc", "-"], {
      input: scripts.join(""),
      encoding: "utf8",
      stdio: ["pipe", "pipe", "pipe"],
    });
    return [];
  } catch (thrown) {
    const { stdout, message } = thrown as { stdout?: string; message: string };
    return stdout ? stdout.trim().split("\n") : [message];
  }
}
