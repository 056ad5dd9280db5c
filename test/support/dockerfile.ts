/** A Dockerfile as its stages, and what an image of one of them is told to do. */

import { readFileSync } from "node:fs";
import path from "node:path";
import {
  DockerfileParser,
  type From,
  type Instruction,
  ModifiableInstruction,
  PropertyInstruction,
} from "dockerfile-ast";
import { ROOT } from "./sources.ts";

export const DOCKERFILE = path.join(ROOT, "deploy", "docker", "Dockerfile");
/** The stages that images are made of; the others only lead to them. */
export const TARGETS = ["coordinator", "worker-cpu", "worker-gpu"] as const;
export type Target = (typeof TARGETS)[number];

export interface Step {
  readonly keyword: string;
  /** Counted from 1. */
  readonly line: number;
  /** What follows the keyword and its flags, on one line. */
  readonly text: string;
  readonly flags: Readonly<Record<string, string>>;
  /** NAME=VALUE of ENV, ARG and LABEL. */
  readonly properties: Readonly<Record<string, string>>;
  /** The strings of the JSON form; absent in shell form. */
  readonly json?: readonly string[];
}

export interface Stage {
  readonly name: string;
  /** An image, or the name of an earlier stage. */
  readonly base: string;
  readonly line: number;
  readonly steps: readonly Step[];
}

export function readDockerfile(text = readFileSync(DOCKERFILE, "utf8")): readonly Stage[] {
  const file = DockerfileParser.parse(text);
  const globals = Object.assign({}, ...file.getInitialARGs().map((arg) => toStep(arg).properties));
  const stages: (Omit<Stage, "steps"> & { readonly steps: Step[] })[] = [];
  for (const instruction of file.getInstructions()) {
    const step = toStep(instruction);
    if (step.keyword === "FROM") {
      const from = instruction as From;
      const variable = /^\$\{?(\w+)\}?$/.exec(from.getImage() ?? "")?.[1];
      const base = variable ? globals[variable] : from.getImage();
      stages.push({ name: from.getBuildStage() ?? "", base, line: step.line, steps: [] });
    } else {
      stages.at(-1)?.steps.push(step);
    }
  }
  return stages;
}

/** The steps of a stage behind those of the stages that it begins with. */
export function lineage(stages: readonly Stage[], name: string): readonly Step[] {
  const stage = stages.find((one) => one.name === name);
  return stage ? [...lineage(stages, stage.base), ...stage.steps] : [];
}

export interface ImageConfig {
  readonly user: string;
  readonly workDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly ports: readonly number[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly healthcheck: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export function imageConfig(steps: readonly Step[]): ImageConfig {
  const last = (keyword: string): Step | undefined =>
    steps.findLast((step) => step.keyword === keyword);
  const pairs = (keyword: string): Record<string, string> =>
    Object.assign(
      {},
      ...steps.filter((step) => step.keyword === keyword).map(({ properties }) => properties),
    );
  return {
    user: last("USER")?.text ?? "root",
    workDir: last("WORKDIR")?.text ?? "/",
    env: pairs("ENV"),
    ports: (last("EXPOSE")?.text ?? "").split(" ").map(Number),
    entrypoint: last("ENTRYPOINT")?.json ?? [],
    cmd: last("CMD")?.json ?? [],
    healthcheck: last("HEALTHCHECK")?.json ?? [],
    labels: pairs("LABEL"),
  };
}

function toStep(instruction: Instruction): Step {
  const text = instruction.getArgumentsContent() ?? "";
  const flags = instruction instanceof ModifiableInstruction ? instruction.getFlags() : [];
  const properties = instruction instanceof PropertyInstruction ? instruction.getProperties() : [];
  const json = /^(?:CMD\s+)?(\[.*\])$/.exec(text)?.[1];
  return {
    keyword: instruction.getKeyword(),
    line: instruction.getRange().start.line + 1,
    text,
    flags: Object.fromEntries(flags.map((flag) => [flag.getName(), flag.getValue() ?? ""])),
    properties: Object.fromEntries(properties.map((one) => [one.getName(), one.getValue() ?? ""])),
    ...(json === undefined ? {} : { json: JSON.parse(json) as string[] }),
  };
}
