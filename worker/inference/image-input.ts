/** What people pass as images, brought into one form: a list of names, each with a way to read. */

import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { RgbImage } from "../data/augment/rgb-image.ts";
import { decodeImage } from "../data/decode.ts";
import { isImageName } from "../data/index/image-name.ts";

/** The path of an image file, the bytes of one (a Buffer), or 8-bit RGB pixels. */
export type ImageInput = string | Uint8Array | RgbImage;

export interface NamedImage {
  /** The path, or the place in the list, e.g. "image 3". */
  readonly name: string;
  /** @throws {FleetError} DATA_INVALID whose message begins with the name */
  read(): Promise<RgbImage>;
}

/**
 * Takes a list of images apart. A path of a folder stands for all images below it, sorted by path;
 * hidden files are none. What cannot be read says so when it is.
 */
export async function listImages(inputs: readonly ImageInput[]): Promise<NamedImage[]> {
  const lists = await Promise.all(
    inputs.map((input, index) =>
      typeof input === "string" ? expandPath(input) : [inMemory(`image ${index + 1}`, input)],
    ),
  );
  return lists.flat();
}

/**
 * One image as a list of one.
 *
 * @throws {FleetError} USAGE for a folder, of which one image could not be told
 */
export async function toList(
  images: ImageInput | readonly ImageInput[],
): Promise<readonly ImageInput[]> {
  if (isList(images)) return images;
  if (typeof images === "string" && (await isFolder(images))) {
    throw new FleetError(
      "USAGE",
      `${images} is a folder; pass a list, [folder], for all its images`,
    );
  }
  return [images];
}

export function isList(
  images: ImageInput | readonly ImageInput[],
): images is readonly ImageInput[] {
  return Array.isArray(images);
}

async function isFolder(place: string): Promise<boolean> {
  return (await stat(place).catch(() => undefined))?.isDirectory() ?? false;
}

async function expandPath(place: string): Promise<NamedImage[]> {
  if (!(await isFolder(place))) return [ofFile(place)];
  try {
    const entries = await readdir(place, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => !entry.isDirectory())
      .map(({ parentPath, name }) => path.relative(place, path.join(parentPath, name)))
      .filter(isImageName);
    if (files.length === 0) throw new Error("holds no images");
    return files.sort().map((file) => ofFile(path.join(place, file)));
  } catch (thrown) {
    return [{ name: place, read: async () => toUnreadable(place)(thrown) }];
  }
}

function ofFile(file: string): NamedImage {
  return {
    name: file,
    read: () => readFile(file).then(decodeImage).catch(toUnreadable(file)),
  };
}

function inMemory(name: string, image: Uint8Array | RgbImage): NamedImage {
  if (image instanceof Uint8Array) {
    const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
    return { name, read: () => decodeImage(bytes).catch(toUnreadable(name)) };
  }
  const { width, height, data } = image;
  const isWhole = width > 0 && height > 0 && data.length === width * height * 3;
  const problem = `has ${data.length} bytes, not ${width} x ${height} x 3`;
  return { name, read: async () => (isWhole ? image : toUnreadable(name)(new Error(problem))) };
}

function toUnreadable(name: string): (thrown: unknown) => never {
  return (thrown) => {
    const { code, message } = thrown as NodeJS.ErrnoException;
    const ofSystem = code === "ENOENT" ? "does not exist" : `cannot be read: ${message}`;
    const problem = code === undefined ? message : ofSystem;
    throw new FleetError("DATA_INVALID", `${name} ${problem}`, {}, thrown);
  };
}
