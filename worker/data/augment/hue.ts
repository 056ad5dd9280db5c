import type { Canvas } from "./canvas.ts";

/**
 * Turns the hue of every pixel by trunc(hue * 255) steps of 1/256 of the circle, in Pillow's 8-bit
 * HSV.
 *
 * @param hue -0.5 to 0.5
 */
export function adjustHue(canvas: Canvas, hue: number): void {
  const { kernels, view, planeBytes, width, height } = canvas;
  kernels.turnHue(view, planeBytes, width * height, Math.trunc(hue * 255) & 0xff);
}
