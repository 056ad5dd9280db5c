/**
 * The index of a data set as one block of memory, which is also what its file holds.
 *
 * ```
 * header    uint32 x 8   magic, magic, version, CRC-32 of all that follows it,
 *                        images, 1 if they lie in tar files, bytes of names, bytes of notes
 * offset    float64      per image, in tar files only: where its contents begin
 * bytes     float64      per image, in tar files only: their length
 * tar       int32        per image, in tar files only: which of them; -1 if it is in none
 * labels    int32        per image; -1 for no label
 * nameEnd   uint32       per image
 * names     UTF-8        one after the other
 * notes     JSON         what there is once
 * ```
 *
 * Numbers are in the order of the machine; the magic reads differently on one of the other order.
 * A file may be damaged or of another make, so {@link viewIndex} trusts nothing in it.
 */

import { crc32 } from "node:zlib";
import { z } from "zod";
import { FleetError } from "../../../proto/errors.ts";

const MAGIC = [0x656c6946, 0x78646e49] as const;
const VERSION = 1;
export const HEADER_BYTES = 32;
const [VERSION_AT, CRC_AT, COUNT_AT, TARS_AT, NAMES_AT, NOTES_AT] = [2, 3, 4, 5, 6, 7];
const CHECKED_FROM = 16;
/** So that every place in the block, and every length in it, is a uint32. */
const BYTES_MAX = 2 ** 32 - 1;
const BYTES_PER_IMAGE = { files: 4 + 4, tars: 8 + 8 + 4 + 4 + 4 } as const;

const sourceSchema = z.strictObject({
  /** Relative to the folder that the data set lies in. */
  path: z.string(),
  /** Of a file; a folder's depends on the file system. */
  bytes: z.number().nonnegative().optional(),
  /** Nanoseconds since 1970. */
  modifiedNs: z.string().regex(/^-?\d+$/),
});

const notesSchema = z.strictObject({
  labelling: z.enum(["folders", "numbers", "none"]),
  /** Names of class folders, or how many numbered classes there are. */
  classes: z.union([z.array(z.string()), z.int().nonnegative()]),
  /** The tar files, in order; relative, as sources are. */
  tars: z.array(z.string()),
  sources: z.array(sourceSchema),
});

/** A file or folder that the index was made from, as it was then. */
export type Source = Readonly<z.infer<typeof sourceSchema>>;
export type IndexNotes = Readonly<z.infer<typeof notesSchema>>;

/** The arrays are views of `memory`. */
export interface IndexColumns {
  readonly memory: SharedArrayBuffer;
  readonly count: number;
  readonly labels: Int32Array<SharedArrayBuffer>;
  readonly nameBytes: Uint8Array<SharedArrayBuffer>;
  readonly nameEnd: Uint32Array<SharedArrayBuffer>;
  readonly places: TarPlaces | undefined;
}

/** Where images lie in tar files. */
export interface TarPlaces {
  readonly tar: Int32Array<SharedArrayBuffer>;
  readonly offset: Float64Array<SharedArrayBuffer>;
  readonly bytes: Float64Array<SharedArrayBuffer>;
}

/** @throws {FleetError} DATA_INVALID when there are too many images for one index */
export function allocateIndex(
  shape: { readonly count: number; readonly nameBytes: number; readonly inTars: boolean },
  notes: IndexNotes,
): IndexColumns {
  const text = Buffer.from(JSON.stringify(notes));
  const words = new Uint32Array(HEADER_BYTES / 4);
  words.set([...MAGIC, VERSION]);
  words[COUNT_AT] = shape.count;
  words[TARS_AT] = Number(shape.inTars);
  words[NAMES_AT] = shape.nameBytes;
  words[NOTES_AT] = text.length;
  const total = totalBytes(words);
  if (shape.nameBytes + text.length > BYTES_MAX || total > BYTES_MAX) {
    throw new FleetError("DATA_INVALID", `${shape.count} images are too many for one index`);
  }
  const memory = new SharedArrayBuffer(total);
  new Uint32Array(memory, 0, words.length).set(words);
  new Uint8Array(memory).set(text, total - text.length);
  return columnsOf(memory);
}

/** Makes the block fit to be kept: to be called when all arrays are filled. */
export function sealIndex({ memory }: IndexColumns): void {
  new Uint32Array(memory, 0, HEADER_BYTES / 4)[CRC_AT] = checksum(memory);
}

/** Bytes of the whole block, by its header; undefined if it is the header of something else. */
export function indexBytes(header: Uint32Array): number | undefined {
  const isOurs = header[0] === MAGIC[0] && header[1] === MAGIC[1];
  return isOurs && header[VERSION_AT] === VERSION ? totalBytes(header) : undefined;
}

/** Undefined when the block is damaged. It must be as long as its header says. */
export function viewIndex(
  memory: SharedArrayBuffer,
): { readonly columns: IndexColumns; readonly notes: IndexNotes } | undefined {
  const header = new Uint32Array(memory, 0, HEADER_BYTES / 4);
  if (header[CRC_AT] !== checksum(memory)) return undefined;
  const columns = columnsOf(memory);
  const notes = parseNotes(memory, header[NOTES_AT]!);
  return notes && isSound(columns, notes) ? { columns, notes } : undefined;
}

function totalBytes(header: Uint32Array): number {
  const perImage = header[TARS_AT] === 0 ? BYTES_PER_IMAGE.files : BYTES_PER_IMAGE.tars;
  return HEADER_BYTES + header[COUNT_AT]! * perImage + header[NAMES_AT]! + header[NOTES_AT]!;
}

function columnsOf(memory: SharedArrayBuffer): IndexColumns {
  const header = new Uint32Array(memory, 0, HEADER_BYTES / 4);
  const count = header[COUNT_AT]!;
  let at = HEADER_BYTES;
  const take = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  const places = header[TARS_AT] !== 0 && {
    offset: new Float64Array(memory, take(8 * count), count),
    bytes: new Float64Array(memory, take(8 * count), count),
    tar: new Int32Array(memory, take(4 * count), count),
  };
  return {
    memory,
    count,
    places: places || undefined,
    labels: new Int32Array(memory, take(4 * count), count),
    nameEnd: new Uint32Array(memory, take(4 * count), count),
    nameBytes: new Uint8Array(memory, at, header[NAMES_AT]),
  };
}

function checksum(memory: SharedArrayBuffer): number {
  return crc32(new Uint8Array(memory, CHECKED_FROM));
}

function parseNotes(memory: SharedArrayBuffer, bytes: number): IndexNotes | undefined {
  const text = Buffer.from(new Uint8Array(memory, memory.byteLength - bytes)).toString("utf8");
  try {
    return notesSchema.parse(JSON.parse(text));
  } catch {
    // Whatever is wrong with it, the index is made anew.
    return undefined;
  }
}

/** Whether every number in the arrays leads to somewhere. */
function isSound(columns: IndexColumns, notes: IndexNotes): boolean {
  const { count, labels, nameEnd, nameBytes, places } = columns;
  const classes = typeof notes.classes === "number" ? notes.classes : notes.classes.length;
  let begin = 0;
  for (let i = 0; i < count; i++) {
    if (nameEnd[i]! < begin || labels[i]! < -1 || labels[i]! >= classes) return false;
    begin = nameEnd[i]!;
  }
  return begin === nameBytes.length && (places === undefined || areInside(places, notes));
}

function areInside({ tar, offset, bytes }: TarPlaces, { tars, sources }: IndexNotes): boolean {
  const lengths = tars.map((path) => sources.find((source) => source.path === path)?.bytes ?? 0);
  for (let i = 0; i < tar.length; i++) {
    if (tar[i] === -1) continue;
    const length = lengths[tar[i]!];
    if (length === undefined || !(offset[i]! >= 0 && bytes[i]! >= 0)) return false;
    if (offset[i]! + bytes[i]! > length) return false;
  }
  return true;
}
