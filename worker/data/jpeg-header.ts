/** What the segments before the pixels of a JPEG say of it. */

const START_OF_SCAN = 0xda;
const APP1 = 0xe1;
const EXIF = "Exif\0\0";
const ORIENTATION = 0x0112;
const ENTRY_BYTES = 12;

/** Frame headers: SOF0 to SOF15 without the three other markers in that range. */
const isFrameHeader = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);

export function isJpeg(bytes: Buffer): boolean {
  return bytes.length > 3 && bytes.readUInt16BE(0) === 0xffd8 && bytes[2] === 0xff;
}

/** Number of colour components that the frame header names; 0 when there is no such header. */
export function jpegComponents(bytes: Buffer): number {
  for (const { marker, begin, end } of segments(bytes)) {
    if (isFrameHeader(marker)) return begin + 5 < end ? bytes[begin + 5]! : 0;
  }
  return 0;
}

/** Whether this is a JPEG whose EXIF data, if it has any, leave it as it is. */
export function isUprightJpeg(bytes: Buffer): boolean {
  if (!isJpeg(bytes)) return false;
  for (const { marker, begin, end } of segments(bytes)) {
    if (marker !== APP1 || bytes.toString("latin1", begin, begin + EXIF.length) !== EXIF) continue;
    if (orientationOf(bytes.subarray(begin + EXIF.length, end)) !== 1) return false;
  }
  return true;
}

interface Segment {
  readonly marker: number;
  /** The contents lie in [begin, end). */
  readonly begin: number;
  readonly end: number;
}

/** The segments before the first scan. */
function* segments(bytes: Buffer): Generator<Segment> {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1]!;
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === START_OF_SCAN) return;
    const end = at + 2 + bytes.readUInt16BE(at + 2);
    yield { marker, begin: at + 4, end: Math.min(end, bytes.length) };
    at = end;
  }
}

/** The orientation tag of the first directory; 1 without one, 0 for a damaged directory. */
function orientationOf(tiff: Buffer): number {
  if (tiff.length < 8) return 0;
  const isLittle = tiff.toString("latin1", 0, 2) === "II";
  const short = (at: number): number => (isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const directory = isLittle ? tiff.readUInt32LE(4) : tiff.readUInt32BE(4);
  if (directory + 2 > tiff.length) return 0;
  const entries = short(directory);
  if (directory + 2 + entries * ENTRY_BYTES > tiff.length) return 0;
  for (let entry = 0; entry < entries; entry++) {
    const at = directory + 2 + entry * ENTRY_BYTES;
    if (short(at) === ORIENTATION) return short(at + 8);
  }
  return 1;
}
