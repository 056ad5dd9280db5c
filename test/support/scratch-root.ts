/**
 * What an image of the Dockerfile would run, without an engine for containers: a root folder that
 * is put together from the steps of a stage, and processes in it as a container has them.
 *
 * The base image is this machine's /usr, read-only: the bases are Debian, and so is the machine of
 * the tests. RUN steps are run but for apt-get, whose packages have to be installed here. COPY
 * takes this checkout's build, and of its node_modules what the image keeps. Processes get
 * namespaces of their own for mounts and process ids, so that the ENTRYPOINT is process 1, a
 * read-only root, no capabilities, and the network that they are told. All that wants root.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, cp, mkdir, readFile, symlink } from "node:fs/promises";
import path from "node:path";
import { type ImageConfig, imageConfig, lineage, readDockerfile, type Step } from "./dockerfile.ts";
import { RUN_MARK } from "./leaks.ts";
import { BUILD, startProcess, type TestProcess } from "./processes.ts";
import { ROOT } from "./sources.ts";

/** Of the machine, since programs that read users, libraries and names want them. */
const ETC = ["passwd", "group", "shadow", "gshadow", "login.defs", "ld.so.cache", "nsswitch.conf"];
/** Empty at first; mounted over in {@link ENTER}. */
const FOLDERS = ["usr", "proc", "dev", "tmp", "app", "etc", "local/bin"];
const LINKS = ["bin", "sbin", "lib", "lib64"];
/** What the build stage has deleted from what it hands over. */
const LEFT_OUT = ["*.map", "*.d.ts", "*.d.mts", "*.d.cts"];
/** What the build stage uninstalls by name, and comes with it. */
const UNINSTALLED = /\/(tfjs-node(-gpu)?|@typescript\/.*)$/;
const PACK =
  'set -o pipefail; from=$0 to=$1; shift; mkdir -p "$to"; ' +
  'tar "$@" -C "$from" -c -T - | tar -C "$to" -x --no-same-owner';

/**
 * Arguments: root, node, user, folder to work in, volumes as NAME=FOLDER, --, variables, command.
 * As user 0:0 the root can be written, for the steps of a build.
 */
const ENTER = `
set -e
root=$1 node=$2 user=$3 dir=$4
shift 4
mount --bind "$root" "$root"
mount --bind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
mount --bind "$root/local" "$root/usr/local"
touch "$root/usr/local/bin/node"
mount --bind "$node" "$root/usr/local/bin/node"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  mount --bind "\${1#*=}" "$root/\${1%%=*}"
  case $1 in data=*) mount -o remount,bind,ro "$root/data" ;; esac
  shift
done
shift
if [ "$user" = 0:0 ]; then exec chroot "$root" "$@"; fi
mount -o remount,bind,ro "$root/usr/local"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="\${user%:*}" --regid="\${user#*:}" --clear-groups \\
  --no-new-privs --inh-caps=-all --bounding-set=-all \\
  env -i --chdir="$dir" "$@"
`;

export interface ScratchRoot {
  readonly config: ImageConfig;
  readonly dir: string;
  /**
   * Starts a command in a container of the image.
   *
   * @param options.network path of the network namespace to join
   * @param options.volumes folders of this machine by their names in the root; `data` is read-only
   */
  start(command: readonly string[], options: ContainerOptions): TestProcess;
}

export interface ContainerOptions {
  readonly network: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly volumes?: Readonly<Record<string, string>>;
}

/** Makes root folders of several targets under `dir`. */
export async function openScratchRoots<Target extends string>(
  targets: readonly Target[],
  dir: string,
): Promise<ReadonlyMap<Target, ScratchRoot>> {
  assert.equal(process.getuid?.(), 0, "only root may make a root folder for others");
  const app = path.join(dir, "app");
  await mkdir(app);
  await buildApp(app);
  const roots = new Map<Target, ScratchRoot>();
  for (const target of targets) {
    roots.set(target, await openScratchRoot(target, path.join(dir, target), app));
  }
  return roots;
}

async function openScratchRoot(target: string, dir: string, app: string): Promise<ScratchRoot> {
  const steps = lineage(readDockerfile(), target);
  const config = imageConfig(steps);
  for (const folder of FOLDERS) await mkdir(path.join(dir, folder), { recursive: true });
  for (const link of LINKS) await symlink(`usr/${link}`, path.join(dir, link));
  for (const name of ETC) await cp(`/etc/${name}`, path.join(dir, "etc", name));
  await chmod(path.join(dir, "tmp"), 0o1777);
  for (const step of steps) {
    if (step.keyword === "RUN") await run(step, dir);
    if (step.keyword === "COPY") copy(step, dir, app);
  }
  return {
    config,
    dir,
    start: (command, { network, env = {}, volumes = {} }) => {
      const variables = { PATH: "/usr/local/bin:/usr/bin:/bin", ...config.env, ...env };
      const marked = { ...variables, [RUN_MARK]: process.env[RUN_MARK] ?? "" };
      return startProcess("nsenter", [
        `--net=${network}`,
        ...enter({ dir, user: config.user, workDir: config.workDir, volumes }),
        ...Object.entries(marked).map(([name, value]) => `${name}=${value}`),
        ...command,
      ]);
    },
  };
}

/** The id, outside, of the first process of a container that was started as `started`. */
export function firstProcess({ pid }: TestProcess): number | undefined {
  return childOf(pid);
}

/** The id of the process that tini has started as the first one of a container. */
export function commandProcess(started: TestProcess): number | undefined {
  const first = firstProcess(started);
  if (first === undefined || readFileSync(`/proc/${first}/comm`, "utf8").trim() !== "tini") return;
  return childOf(first);
}

function childOf(pid: number): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return children === "" ? undefined : Number(children.split(" ")[0]);
}

function enter(options: {
  readonly dir: string;
  readonly user: string;
  readonly workDir: string;
  readonly volumes: Readonly<Record<string, string>>;
}): readonly string[] {
  const { dir, user, workDir, volumes } = options;
  return [
    ...["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter"],
    ...[dir, process.execPath, user, workDir],
    ...Object.entries(volumes).map(([name, folder]) => `${name}=${folder}`),
    "--",
  ];
}

async function run({ text, line }: Step, dir: string): Promise<void> {
  const packages = /apt-get install ([^&;]*)/.exec(text)?.[1]?.match(/(?<=^|\s)[a-z0-9][^\s]*/g);
  if (packages) {
    // Ubuntu's name of a package that Debian has by another one.
    const names = packages.map((name) => (name === "libturbojpeg" ? "libturbojpeg0" : name));
    execFileSync("dpkg-query", ["--show", ...names], { stdio: "pipe" });
    return;
  }
  const [command = "", ...args] = enter({ dir, user: "0:0", workDir: "/", volumes: {} });
  const { code, stderr } = await startProcess(command, [...args, "sh", "-c", text]).exited();
  assert.equal(code, 0, `line ${line} of the Dockerfile: ${stderr}`);
}

/** Each file exists once, whatever number of roots it is in. */
function copy({ text, flags, line }: Step, dir: string, app: string): void {
  const [source = "", target = ""] = text.split(" ");
  // It is mounted there.
  if (source === "/usr/local/bin/node") return;
  const part = source.replace(/^\/(out|app)(?=\/|$)/, "");
  assert.ok(flags["from"] && part !== source, `line ${line} of the Dockerfile: ${text}`);
  const from = part === "" ? `${app}/.` : path.join(app, part);
  execFileSync("cp", ["--archive", "--link", from, path.join(dir, target)]);
}

/**
 * Puts what the build stage hands over into `dir`: package.json, dist, node_modules.
 */
async function buildApp(dir: string): Promise<void> {
  await cp(path.join(ROOT, "package.json"), path.join(dir, "package.json"));
  pack(BUILD, path.join(dir, "dist"), ["coordinator", "proto", "worker"]);
  pack(ROOT, dir, await keptPackages());
}

/** Copies folders; thousands of files, for which Node.js would take half a minute. */
function pack(from: string, to: string, folders: readonly string[]): void {
  execFileSync("bash", ["-c", PACK, from, to, ...LEFT_OUT.map((name) => `--exclude=${name}`)], {
    input: folders.join("\n"),
  });
}

/** Those that a production install has, without what the build stage takes away by name. */
export async function keptPackages(): Promise<readonly string[]> {
  const lock = JSON.parse(await readFile(path.join(ROOT, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  const installed = JSON.parse(
    await readFile(path.join(ROOT, "node_modules", ".package-lock.json"), "utf8"),
  ) as { packages: Record<string, unknown> };
  return (
    Object.entries(lock.packages)
      .filter(([folder, { dev, devOptional }]) => folder !== "" && !dev && !devOptional)
      .map(([folder]) => folder)
      // Packages in packages go with them.
      .filter((folder) => folder.lastIndexOf("node_modules") === 0 && folder in installed.packages)
      .filter((folder) => !UNINSTALLED.test(folder))
  );
}
