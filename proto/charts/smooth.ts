export type Point = readonly [x: number, y: number];

/**
 * The mean of each point and of `reach` neighbours on either side; towards the ends there are fewer
 * of them.
 */
export function smooth(points: readonly Point[], reach: number): Point[] {
  const sums = new Float64Array(points.length + 1);
  for (const [i, [, y]] of points.entries()) sums[i + 1] = sums[i]! + y;
  return points.map(([x], i) => {
    const own = Math.min(reach, i, points.length - 1 - i);
    return [x, (sums[i + own + 1]! - sums[i - own]!) / (2 * own + 1)];
  });
}
