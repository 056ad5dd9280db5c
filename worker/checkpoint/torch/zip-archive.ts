/**
 * The format of torch.save since 1.6: a zip of `NAME/data.pkl`, which describes everything, and
 * `NAME/data/KEY`, the elements of one storage each.
 */

import { FleetError } from "../../../proto/errors.ts";
import type { InputFile } from "../input-file.ts";
import { PickleInput } from "./pickle-input.ts";
import type { SavedContents } from "./saved-contents.ts";
import { unpickle } from "./unpickle.ts";
import { readZipEntries, readZipEntry } from "./zip-reader.ts";

/** Of data.pkl: configuration text and logged scalars may be long, tensors are not in it. */
const PICKLE_BYTES_MAX = 256 * 1024 * 1024;
const PICKLE = "/data.pkl";

/** @throws {FleetError} CHECKPOINT_INVALID saying what is wrong with the file */
export function openArchive(file: InputFile): SavedContents {
  const entries = readZipEntries(file);
  const folder = findFolder([...entries.keys()]);
  const locate = (path: string) => {
    const entry = entries.get(`${folder}${path}`);
    if (!entry) throw invalid(`its zip has no ${JSON.stringify(`${folder}${path}`)}`);
    return { bytes: entry.bytes, read: () => readZipEntry(file, entry) };
  };
  // Files from before PyTorch 2.1 do not say; they are from little-endian machines.
  if (entries.has(`${folder}/byteorder`)) {
    const order = Buffer.from(locate("/byteorder").read()).toString("utf8");
    if (order !== "little") throw invalid(`its byte order is ${JSON.stringify(order)}, not little`);
  }
  const pickle = locate(PICKLE);
  if (pickle.bytes > PICKLE_BYTES_MAX) throw invalid(`its data.pkl has ${pickle.bytes} bytes`);
  const { value } = unpickle(PickleInput.of(pickle.read()));
  return { root: value, locate: (key) => locate(`/data/${key}`) };
}

/** The one folder in the zip, named for the file when it was written. */
function findFolder(names: readonly string[]): string {
  const folders = names
    .filter((name) => name.endsWith(PICKLE))
    .map((name) => name.slice(0, -PICKLE.length));
  const folder = folders.find((name) => !name.includes("/"));
  if (folder === undefined)
    throw invalid("its zip has no data.pkl, so torch.save did not write it");
  if (names.includes(`${folder}/constants.pkl`)) {
    throw invalid("it is a TorchScript program; save its state_dict() with torch.save");
  }
  return folder;
}

function invalid(reason: string): FleetError {
  return new FleetError("CHECKPOINT_INVALID", reason);
}
