/** What all pictures share: font, colours, axes. Lengths are pixels of the SVG. */

/** Comes with the package; a viewer of an SVG file that lacks it has one as wide. */
export const FONT = "Arimo, Arial, 'Liberation Sans', Helvetica, sans-serif";

export const INK = { text: "#333", faint: "#666", grid: "#eee", axis: "#999" } as const;

/** Those of Okabe and Ito, which people who do not see all colours tell apart; then some more. */
export const SERIES_COLOURS: readonly string[] = [
  ...["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d3a9b", "#7f7f7f"],
  ...["#8c4a2f", "#a4b51c", "#e0245e", "#222222"],
];

/** A horizontal axis of numbers; only the lowest of several panels carries name and labels. */
export function acrossAxis(
  gridIndex: number,
  options: {
    readonly name: string;
    readonly max: number;
    readonly isLabelled: boolean;
  },
): object {
  const { name, max, isLabelled } = options;
  return {
    type: "value",
    gridIndex,
    min: 0,
    max,
    ...(isLabelled ? { name, nameLocation: "middle", nameGap: 28 } : {}),
    nameTextStyle: { fontSize: 14, color: INK.text },
    axisLabel: { show: isLabelled, fontSize: 12, color: INK.text },
    splitLine: { lineStyle: { color: INK.grid } },
  };
}

/** A vertical axis of numbers. */
export function upAxis(
  gridIndex: number,
  options: {
    readonly name: string;
    readonly splitNumber: number;
    /** Begins where the values do, not at zero. */
    readonly isCropped: boolean;
    readonly nameGap?: number;
  },
): object {
  const { name, splitNumber, isCropped, nameGap = 54 } = options;
  return {
    type: "value",
    gridIndex,
    name,
    nameLocation: "middle",
    nameGap,
    nameTextStyle: { fontSize: 14, color: INK.text },
    scale: isCropped,
    splitNumber,
    axisLabel: { fontSize: 12, color: INK.text },
    splitLine: { lineStyle: { color: INK.grid } },
  };
}

/** A line of text that stands free, cut off with dots where it would be wider than `width`. */
export function textMark(
  text: string,
  style: {
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly fontSize: number;
    readonly fill: string;
    readonly overflow?: "truncate" | "break";
  },
): object {
  const { overflow = "truncate", ...rest } = style;
  return { type: "text", silent: true, style: { text, fontFamily: FONT, overflow, ...rest } };
}
