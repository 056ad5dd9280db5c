/** Images side by side, each with its pictures in a strip and its name above them. */

import sharp from "sharp";
import { INK, textMark } from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import type { RgbImage } from "../data/augment/rgb-image.ts";
import type { Picture, Sample } from "./sample-pictures.ts";

/** Edge of the square that a picture lies in. */
const BOX = 112;
/** Pixels of a box in the PNG. */
const BOX_PIXELS = 2 * BOX;
const GAP = 6;
const MARGIN = 24;
const TOP = 84;
const LINE = 18;
const TILE_GAP = { x: 26, y: 22 };
/** A sheet has as many strips in a row as fit. */
const WIDTH_MAX = 1_240;

interface Place {
  readonly x: number;
  readonly y: number;
}

/** Lays out the strips in rows. */
export async function contactSheet(
  title: string,
  subtitle: string,
  samples: readonly Sample[],
): Promise<Chart> {
  const boxes = Math.max(1, ...samples.map(({ pictures }) => pictures.length));
  // A single picture is too narrow for class and name side by side.
  const headings = boxes === 1 ? 2 : 1;
  const strip = { width: boxes * (BOX + GAP) - GAP, height: (headings + 1) * LINE + BOX };
  const fitting = Math.floor((WIDTH_MAX - 2 * MARGIN + TILE_GAP.x) / (strip.width + TILE_GAP.x));
  const columns = Math.max(1, Math.min(samples.length, fitting));
  const marks = samples.map((sample, i) => {
    const x = MARGIN + (i % columns) * (strip.width + TILE_GAP.x);
    const y = TOP + Math.floor(i / columns) * (strip.height + TILE_GAP.y);
    return stripMarks(sample, { x, y }, { width: strip.width, headings });
  });
  const rows = Math.ceil(samples.length / columns);
  const width = 2 * MARGIN + columns * (strip.width + TILE_GAP.x) - TILE_GAP.x;
  return {
    // A narrow sheet still has room for its title.
    width: Math.max(width, 640),
    height: TOP + rows * (strip.height + TILE_GAP.y) + MARGIN - TILE_GAP.y,
    title,
    subtitle,
    option: { graphic: (await Promise.all(marks)).flat() },
  };
}

async function stripMarks(
  sample: Sample,
  { x, y }: Place,
  { width, headings }: { readonly width: number; readonly headings: number },
): Promise<object[]> {
  const { label, name, pictures, problem } = sample;
  const names = [label, name].filter((text) => text !== "");
  const lines = headings === 1 ? [names.join("  ")] : names;
  const heading = lines.map((text, i) =>
    textMark(text, { x, y: y + i * LINE, width, fontSize: 13, fill: INK.text }),
  );
  const below = y + headings * LINE;
  if (problem !== undefined) {
    const style = { x, y: below + LINE, width, fontSize: 12, fill: "#a33a2c" };
    return [...heading, textMark(problem, { ...style, overflow: "break" })];
  }
  const marks = pictures.map((picture, i) =>
    pictureMarks(picture, { x: x + i * (BOX + GAP), y: below }),
  );
  return [...heading, ...(await Promise.all(marks)).flat()];
}

async function pictureMarks({ caption, image }: Picture, { x, y }: Place): Promise<object[]> {
  const { uri, width, height } = await encode(image);
  return [
    textMark(caption, { x, y, width: BOX, fontSize: 12, fill: INK.faint }),
    { type: "image", silent: true, style: { image: uri, x, y: y + LINE, width, height } },
  ];
}

/** Small images are enlarged by whole factors, so that each of their pixels stays visible. */
async function encode(image: RgbImage): Promise<{ uri: string; width: number; height: number }> {
  const { width, height, data } = image;
  const fit = BOX_PIXELS / Math.max(width, height);
  const scale = fit >= 1 ? Math.floor(fit) : fit;
  const size = {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  };
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize({ ...size, fit: "fill", kernel: scale >= 1 ? "nearest" : "lanczos3" })
    .png()
    .toBuffer();
  const uri = `data:image/png;base64,${png.toString("base64")}`;
  return { uri, width: size.width / 2, height: size.height / 2 };
}
