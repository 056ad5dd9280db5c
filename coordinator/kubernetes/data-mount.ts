/**
 * Where a pod mounts the data set. A recipe names its data by a folder of the machine; in a pod
 * relative paths begin at `/`, and the claim takes the place of the first folder of `data.root`:
 * with `data/imagenet` and with `/data/imagenet` it is mounted at /data, and holds `imagenet`.
 */

import { FleetError } from "../../proto/errors.ts";

/** Folders that a container cannot do without, or that hold something else. */
const TAKEN =
  /^(app|bin|boot|dev|etc|home|lib\w*|opt|proc|root|run|sbin|sys|tmp|usr|var|work_dirs)?$/;

/** @throws {FleetError} RECIPE_INVALID when nothing can be mounted there */
export function dataMountPath(root: string): string {
  const folders: string[] = [];
  for (const part of root.split("/")) {
    if (part === "..") folders.pop();
    else if (part !== "" && part !== ".") folders.push(part);
  }
  const [first = ""] = folders;
  if (!TAKEN.test(first)) return `/${first}`;
  throw new FleetError(
    "RECIPE_INVALID",
    `data.root ${root} is /${folders.join("/")} in a pod, where no data can be mounted: ` +
      "name it by a folder like /data/photos",
  );
}
