/** L2 normalisation of embeddings and its derivative, on the host in float64. R rows, D width. */

/** As mmpretrain: added to the norm, not to its square. */
const NORM_EPS = 1e-10;

/** Each row of z_RD divided by its length + 1e-10. */
export function normaliseRows(z_RD: Float32Array, dim: number): Float32Array {
  const y_RD = new Float32Array(z_RD.length);
  for (let begin = 0; begin < z_RD.length; begin += dim) {
    const scale = 1 / (rowNorm(z_RD, begin, dim) + NORM_EPS);
    for (let k = begin; k < begin + dim; k++) y_RD[k] = z_RD[k]! * scale;
  }
  return y_RD;
}

/**
 * Gradient with respect to z_RD, from that of its normalised rows.
 *
 * With n = |z| and m = n + eps, y = z / m:  dz = dy / m - z (z . dy) / (n m^2); a row of zeros has
 * no direction and gets dy / m.
 */
export function normaliseRowsBackward(
  z_RD: Float32Array,
  dy_RD: Float32Array,
  dim: number,
): Float32Array {
  const dz_RD = new Float32Array(z_RD.length);
  for (let begin = 0; begin < z_RD.length; begin += dim) {
    const norm = rowNorm(z_RD, begin, dim);
    const padded = norm + NORM_EPS;
    let along = 0;
    for (let k = begin; k < begin + dim; k++) along += z_RD[k]! * dy_RD[k]!;
    const radial = norm > 0 ? along / (norm * padded ** 2) : 0;
    for (let k = begin; k < begin + dim; k++) dz_RD[k] = dy_RD[k]! / padded - z_RD[k]! * radial;
  }
  return dz_RD;
}

function rowNorm(z_RD: Float32Array, begin: number, dim: number): number {
  let squares = 0;
  for (let k = begin; k < begin + dim; k++) squares += z_RD[k]! ** 2;
  return Math.sqrt(squares);
}
