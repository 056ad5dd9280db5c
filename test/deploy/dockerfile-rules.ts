/**
 * Rules for a Dockerfile, by their numbers in hadolint's list. Not held is DL3008, versions of
 * packages: Debian and Ubuntu keep the newest only, so a build with others would soon fail.
 */

import { readDockerfile, type Stage, type Step } from "../support/dockerfile.ts";

export interface DockerfileRule {
  readonly meaning: string;
  readonly complaints: (stages: readonly Stage[]) => readonly string[];
  /** A Dockerfile that breaks the rule, in one place. */
  readonly broken: string;
}

/** Of a stage that ends here: no other one begins with it, and none copies from it. */
export function finalStages(stages: readonly Stage[]): readonly Stage[] {
  const used = new Set(stages.flatMap(({ base, steps }) => [base, ...steps.map(copiedFrom)]));
  return stages.filter(({ name }) => !used.has(name));
}

export const DOCKERFILE_RULES: Readonly<Record<string, DockerfileRule>> = {
  DL3000: {
    meaning: "a WORKDIR is absolute",
    complaints: eachStep("WORKDIR", ({ text }) => !text.startsWith("/")),
    broken: "FROM a:1\nWORKDIR app",
  },
  DL3002: {
    meaning: "the last USER is not root",
    complaints: (stages) =>
      finalStages(stages)
        .filter(({ name }) => /^(root|0)(:|$)/.test(lastOf(stages, name, "USER")?.text ?? "root"))
        .map(({ name }) => `${name} runs as root`),
    broken: "FROM a:1 AS b\nUSER 1\nFROM b AS c\nUSER 0:0",
  },
  DL3003: {
    meaning: "WORKDIR instead of cd",
    complaints: eachStep("RUN", ({ text }) => /(^|[;&|(]\s*)cd\s/.test(text)),
    broken: "FROM a:1\nRUN cd /tmp && make",
  },
  DL3004: {
    meaning: "no sudo",
    complaints: eachStep("RUN", ({ text }) => /\bsudo\b/.test(text)),
    broken: "FROM a:1\nRUN sudo make",
  },
  DL3006: {
    meaning: "an image has a tag",
    complaints: eachImage((image) => !/:[^/]+$/.test(image)),
    broken: "ARG BASE=r:5000/a\nFROM $BASE",
  },
  DL3007: {
    meaning: "the tag is not latest",
    complaints: eachImage((image) => image.endsWith(":latest")),
    broken: "FROM a:latest",
  },
  DL3009: {
    meaning: "lists of packages go in the layer that they came in",
    complaints: eachStep(
      "RUN",
      ({ text }) => /apt-get update/.test(text) && !/rm -rf \/var\/lib\/apt\/lists\/\*/.test(text),
    ),
    broken: "FROM a:1\nRUN apt-get update && apt-get install -y --no-install-recommends b",
  },
  DL3014: {
    meaning: "apt-get install asks nothing",
    complaints: eachInstall((options) => !/(^|\s)(-y|--yes)(\s|$)/.test(options)),
    broken: "FROM a:1\nRUN apt-get install --no-install-recommends b",
  },
  DL3015: {
    meaning: "apt-get install takes what is needed only",
    complaints: eachInstall((options) => !options.includes("--no-install-recommends")),
    broken: "FROM a:1\nRUN apt-get install -y b",
  },
  DL3020: {
    meaning: "COPY instead of ADD",
    complaints: eachStep("ADD", () => true),
    broken: "FROM a:1\nADD b /b",
  },
  DL3022: {
    meaning: "COPY --from names an earlier stage",
    complaints: (stages) =>
      stages.flatMap(({ steps }, index) =>
        steps
          .filter((step) => copiedFrom(step) !== undefined)
          .filter((step) => !stages.slice(0, index).some(({ name }) => name === copiedFrom(step)))
          .map((step) => `line ${step.line}: ${copiedFrom(step)}`),
      ),
    broken: "FROM a:1 AS b\nCOPY --from=c /d /d\nFROM a:1 AS c",
  },
  DL3024: {
    meaning: "names of stages are unique",
    complaints: (stages) =>
      stages
        .filter(({ name }, index) => stages.findIndex((one) => one.name === name) !== index)
        .map(({ line, name }) => `line ${line}: ${name}`),
    broken: "FROM a:1 AS b\nFROM a:2 AS b",
  },
  DL3025: {
    meaning: "CMD, ENTRYPOINT and HEALTHCHECK have the JSON form",
    complaints: eachStep(/^(CMD|ENTRYPOINT|HEALTHCHECK)$/, ({ json }) => json === undefined),
    broken: "FROM a:1\nHEALTHCHECK CMD node -e 1",
  },
  DL3027: {
    meaning: "apt-get instead of apt",
    complaints: eachStep("RUN", ({ text }) => /\bapt\s+(update|install)/.test(text)),
    broken: "FROM a:1\nRUN apt install -y b",
  },
  DL3045: {
    meaning: "COPY to a relative place comes after a WORKDIR",
    complaints: (stages) =>
      stages.flatMap(({ steps }) => {
        const workDir = steps.findIndex(({ keyword }) => keyword === "WORKDIR");
        return steps
          .filter(({ keyword, text }) => keyword === "COPY" && !/\s\/\S*$/.test(text))
          .filter((step) => workDir === -1 || steps.indexOf(step) < workDir)
          .map(({ line }) => `line ${line}`);
      }),
    broken: "FROM a:1\nCOPY b ./",
  },
  DL3057: {
    meaning: "there is a HEALTHCHECK",
    complaints: (stages) =>
      finalStages(stages)
        .filter(({ name }) => lastOf(stages, name, "HEALTHCHECK") === undefined)
        .map(({ name }) => `${name} has none`),
    broken: "FROM a:1 AS b\nUSER 1",
  },
  DL4006: {
    meaning: "a pipe fails when its first command does",
    complaints: eachStep(
      "RUN",
      ({ text }) => /[^|]\|[^|]/.test(text) && !/set -[a-z]*o pipefail/.test(text),
    ),
    broken: "FROM a:1\nRUN curl b | tar x",
  },
};

export function complaintsOf(rule: DockerfileRule, text: string): readonly string[] {
  return rule.complaints(readDockerfile(text));
}

function eachStep(
  keyword: string | RegExp,
  isBroken: (step: Step) => boolean,
): DockerfileRule["complaints"] {
  const isMeant = (step: Step): boolean =>
    typeof keyword === "string" ? step.keyword === keyword : keyword.test(step.keyword);
  return (stages) =>
    stages
      .flatMap(({ steps }) => steps)
      .filter((step) => isMeant(step) && isBroken(step))
      .map(({ line, text }) => `line ${line}: ${text}`);
}

/** @param isBroken of what stands behind `apt-get install`, up to the next command */
function eachInstall(isBroken: (options: string) => boolean): DockerfileRule["complaints"] {
  return eachStep("RUN", ({ text }) =>
    [...text.matchAll(/apt-get\s+install([^&;|]*)/g)].some(([, options]) =>
      isBroken(options ?? ""),
    ),
  );
}

function eachImage(isBroken: (image: string) => boolean): DockerfileRule["complaints"] {
  return (stages) =>
    stages
      .filter(({ base }) => !stages.some(({ name }) => name === base) && isBroken(base))
      .map(({ line, base }) => `line ${line}: ${base}`);
}

function copiedFrom({ flags }: Step): string | undefined {
  return flags["from"];
}

function lastOf(stages: readonly Stage[], name: string, keyword: string): Step | undefined {
  const stage = stages.find((one) => one.name === name);
  const own = stage?.steps.findLast((step) => step.keyword === keyword);
  return own ?? (stage ? lastOf(stages, stage.base, keyword) : undefined);
}
