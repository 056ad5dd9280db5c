/** What the module exports. */

export { blurColumns, blurRows } from "./blur";
export { blendWith, blendWithLuma, sumLuma, toGrey } from "./colour";
export { turnHue } from "./hue";
export { resampleColumns, resampleRows } from "./resample";
