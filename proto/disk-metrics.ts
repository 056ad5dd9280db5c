/** Metrics of the room where a process writes. */

import { Gauge, type Registry } from "prom-client";
import { type DiskSpace, diskSpaceOf } from "./disk-space.ts";

const FIGURES: Readonly<Record<string, [help: string, keyof DiskSpace]>> = {
  free: ["Room that is left where files are written.", "freeBytes"],
  size: ["Size of the file system that they lie in.", "sizeBytes"],
};

/** @param options.process the second part of their names, as `worker` */
export function addDiskMetrics(
  registry: Registry,
  options: { readonly process: string; readonly folder: string },
): void {
  const look = diskSpaceOf(options.folder);
  for (const [name, [help, figure]] of Object.entries(FIGURES)) {
    new Gauge({
      name: `simclr_${options.process}_disk_${name}_bytes`,
      help,
      registers: [registry],
      async collect() {
        const space = await look();
        if (space) this.set(space[figure]);
        else this.remove();
      },
    });
  }
}
