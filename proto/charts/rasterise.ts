/**
 * SVG to PNG.
 *
 * The font comes with a package, because a bare machine has none, and text would vanish without a
 * word. Fonts of the system stand in for letters that it lacks.
 */

import { fileURLToPath } from "node:url";
import { renderAsync } from "@resvg/resvg-js";

/** Pixels of the PNG per unit of the SVG: sharp on dense screens. */
const SCALE = 2;

const FONT_FILES = [
  import.meta.resolve("@expo-google-fonts/arimo/400Regular/Arimo_400Regular.ttf"),
  import.meta.resolve("@expo-google-fonts/arimo/700Bold/Arimo_700Bold.ttf"),
].map((url) => fileURLToPath(url));

/** Draws an SVG document twice its size, as the bytes of a PNG file. */
export async function rasterise(svg: string): Promise<Uint8Array> {
  const picture = await renderAsync(svg, {
    font: {
      fontFiles: FONT_FILES,
      loadSystemFonts: true,
      defaultFontFamily: "Arimo",
      sansSerifFamily: "Arimo",
    },
    fitTo: { mode: "zoom", value: SCALE },
  });
  return picture.asPng();
}
