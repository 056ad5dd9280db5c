/**
 * The order of names: by top folder first, so that the images of a class stand together ("a/x"
 * before "a-b/x"), then by name, both as JavaScript compares strings.
 *
 * Only numbers of names are moved. The sort is a merge sort that leaves alone what is in order, as
 * most archives nearly are.
 */

import { type Names, nameBegin } from "./name-list.ts";

const SLASH = 0x2f;
/** Up to here, moving one by one is faster than merging. */
const SHORT = 8;

/** A way to compare names by their numbers. */
export interface NameOrder {
  /** Negative when name `a` comes first. */
  readonly compare: (a: number, b: number) => number;
  /** Where the top folder of a name ends; where the name begins, if it lies in none. */
  readonly folderEnd: Uint32Array;
}

/**
 * The order of `count` names.
 *
 * @param skip bytes at the beginning of every name that do not belong to it
 */
export function nameOrder(names: Names, count: number, skip = 0): NameOrder {
  const { bytes, end } = names;
  const folderEnd = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const begin = nameBegin(names, i) + skip;
    let at = begin;
    while (at < end[i]! && bytes[at] !== SLASH) at++;
    folderEnd[i] = at < end[i]! ? at : begin;
  }
  const compare = (a: number, b: number): number => {
    const folderA = folderEnd[a]!;
    const folderB = folderEnd[b]!;
    const beginA = nameBegin(names, a) + skip;
    const beginB = nameBegin(names, b) + skip;
    return (
      compareBytes(bytes, beginA, folderA, beginB, folderB) ||
      compareBytes(bytes, folderA, end[a]!, folderB, end[b]!)
    );
  };
  return { compare, folderEnd };
}

/** The numbers 0 to count - 1. */
export function numbersUpTo(count: number): Uint32Array {
  const numbers = new Uint32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = i;
  return numbers;
}

/** Sorts numbers in place; of equal ones the earlier stays before the later. */
export function sortNumbers(numbers: Uint32Array, compare: (a: number, b: number) => number): void {
  sortRange(numbers, new Uint32Array(Math.ceil(numbers.length / 2)), 0, numbers.length, compare);
}

function sortRange(
  numbers: Uint32Array,
  spare: Uint32Array,
  begin: number,
  end: number,
  compare: (a: number, b: number) => number,
): void {
  if (end - begin <= SHORT) {
    insertEach(numbers, begin, end, compare);
    return;
  }
  const middle = (begin + end) >>> 1;
  sortRange(numbers, spare, begin, middle, compare);
  sortRange(numbers, spare, middle, end, compare);
  if (compare(numbers[middle - 1]!, numbers[middle]!) <= 0) return;

  spare.set(numbers.subarray(begin, middle));
  const leftEnd = middle - begin;
  let left = 0;
  let right = middle;
  for (let to = begin; left < leftEnd; to++) {
    const takesRight = right < end && compare(spare[left]!, numbers[right]!) > 0;
    numbers[to] = takesRight ? numbers[right++]! : spare[left++]!;
  }
}

function insertEach(
  numbers: Uint32Array,
  begin: number,
  end: number,
  compare: (a: number, b: number) => number,
): void {
  for (let i = begin + 1; i < end; i++) {
    const moved = numbers[i]!;
    let to = i;
    for (; to > begin && compare(numbers[to - 1]!, moved) > 0; to--) {
      numbers[to] = numbers[to - 1]!;
    }
    numbers[to] = moved;
  }
}

/** Two ranges of UTF-8, in the order that their texts have as UTF-16. */
function compareBytes(bytes: Uint8Array, a: number, endA: number, b: number, endB: number): number {
  const lengthA = endA - a;
  const lengthB = endB - b;
  const length = Math.min(lengthA, lengthB);
  for (let i = 0; i < length; i++) {
    const x = bytes[a + i]!;
    const y = bytes[b + i]!;
    if (x !== y) return rank(x) - rank(y);
  }
  return lengthA - lengthB;
}

/**
 * UTF-8 sorts as code points do. UTF-16 has those from 2^16 on (first byte 0xF0 to 0xF4) before
 * U+E000 to U+FFFF (0xEE, 0xEF).
 */
function rank(byte: number): number {
  return byte === 0xee || byte === 0xef ? byte + 0x10 : byte;
}
