/** Which files count as images: told by their names, before any of them is opened. */

/** Without leading dot, in lower case. */
export const IMAGE_EXTENSIONS = [
  ...["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "ppm", "pgm"],
] as const;

const ENDINGS = IMAGE_EXTENSIONS.map((extension) => Buffer.from(extension));
const DOT = 0x2e;
const SLASH = 0x2f;
/** Makes an ASCII letter a small one. */
const SMALL = 0x20;

/** True if the name ends like an image's; hidden files, and those in hidden folders, are none. */
export function isImageName(name: string): boolean {
  const bytes = Buffer.from(name);
  return isImageNameAt(bytes, 0, bytes.length);
}

/** The same for the name that is `bytes[begin, end)`, UTF-8 with forward slashes. */
export function isImageNameAt(bytes: Uint8Array, begin: number, end: number): boolean {
  for (let at = begin; at < end; at++) {
    if (bytes[at] === DOT && (at === begin || bytes[at - 1] === SLASH)) return false;
  }
  for (const ending of ENDINGS) if (endsWith(bytes, begin, end, ending)) return true;
  return false;
}

function endsWith(bytes: Uint8Array, begin: number, end: number, ending: Uint8Array): boolean {
  const from = end - ending.length;
  if (from <= begin || bytes[from - 1] !== DOT) return false;
  for (let i = 0; i < ending.length; i++) {
    if ((bytes[from + i]! | SMALL) !== ending[i]) return false;
  }
  return true;
}
