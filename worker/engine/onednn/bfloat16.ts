/** bfloat16: the upper half of a float32. */

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

export function floatOf(half: number): number {
  word[0] = half * 2 ** 16;
  return float[0]!;
}
