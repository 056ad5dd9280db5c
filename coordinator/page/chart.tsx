/**
 * A chart over the steps of a stage, in the colours of the page, with what it shows in words and as
 * a table for those who do not see it.
 */

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { formatCount, formatShortFigure } from "../../proto/cli/format.ts";

export interface Line {
  readonly name: string;
  /** A variable of page.css. */
  readonly colour: string;
  /** At each of `steps`; null where there is none. */
  readonly values: readonly (number | null)[];
  readonly isDashed?: boolean;
  /** Behind another line, which says more. */
  readonly isFaint?: boolean;
  readonly hasDots?: boolean;
}

export interface ChartProps {
  readonly title: string;
  readonly unit?: string;
  readonly steps: readonly number[];
  readonly lines: readonly Line[];
}

const HEIGHT = 220;
const ROWS_MAX = 12;

export function Chart({ title, unit = "", steps, lines }: ChartProps) {
  /** Where the pointer is; the newest point when it is elsewhere. */
  const [pointed, point] = useState<number>();
  const figures = lines.flatMap(({ name, colour, values, isFaint }) => {
    const value = pointed === undefined ? values.findLast((one) => one !== null) : values[pointed];
    return value === undefined || value === null ? [] : [{ name, colour, value, isFaint }];
  });
  const step = pointed === undefined ? undefined : steps[pointed];
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">
          {title}
          {step === undefined ? null : <span class="quiet"> at step {formatCount(step)}</span>}
        </span>
        <span class="legend">
          {figures.map(({ name, colour, value, isFaint }) => (
            <span key={name}>
              <i
                class={`swatch ${isFaint ? "faint" : ""}`}
                style={{ background: `var(${colour})` }}
              />
              {name} <b>{formatShortFigure(value) + unit}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <Canvas steps={steps} lines={lines} onPoint={point} />
      <ChartTable title={title} unit={unit} steps={steps} lines={lines} />
    </figure>
  );
}

interface CanvasProps extends Pick<ChartProps, "steps" | "lines"> {
  readonly onPoint: (index: number | undefined) => void;
}

function Canvas({ steps, lines, onPoint }: CanvasProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const newest = useRef<uPlot.AlignedData>([[]]);
  const shape = lines.map(({ name }) => name).join();
  useEffect(() => {
    const data: unknown = [steps, ...lines.map(({ values }) => values)];
    newest.current = data as uPlot.AlignedData;
    plot.current?.setData(newest.current);
  }, [steps, lines]);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = (): void => {
      plot.current?.destroy();
      const options = optionsOf(lines, element.clientWidth, onPoint);
      plot.current = new uPlot(options, newest.current, element);
    };
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const fit = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    draw();
    fit.observe(element);
    scheme.addEventListener("change", draw);
    return () => {
      scheme.removeEventListener("change", draw);
      fit.disconnect();
      plot.current?.destroy();
      plot.current = undefined;
    };
    // Lines come and go with `shape`; their points are set above.
  }, [shape]);
  return <div class="canvas" ref={place} aria-hidden="true" />;
}

function optionsOf(
  lines: readonly Line[],
  width: number,
  onPoint: CanvasProps["onPoint"],
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--quiet"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  const figures = (_: uPlot, values: readonly number[]): string[] => values.map(formatShortFigure);
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.idx ?? undefined)] },
    scales: { x: { time: false } },
    padding: [8, 18, 0, 0],
    axes: [
      { ...axis, values: (_, values) => values.map((step) => formatCount(step)), size: 28 },
      { ...axis, values: figures, size: 56 },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => {
        return {
          label: line.name,
          stroke: colour(line.colour),
          alpha: line.isFaint ? 0.35 : 1,
          width: line.isFaint ? 1 : 2,
          spanGaps: true,
          points: { show: line.hasDots ?? false, size: 5 },
          ...(line.isDashed ? { dash: [5, 4] } : {}),
        };
      }),
    ],
  };
}

/** The newest points; the drawing has them all. */
function ChartTable({ title, unit = "", steps, lines }: ChartProps) {
  const from = Math.max(0, steps.length - ROWS_MAX);
  const rows = steps.slice(from).map((step, index) => ({ step, index: from + index }));
  const points = `${steps.length} ${steps.length === 1 ? "point" : "points"}`;
  return (
    <details>
      <summary>
        {points} <span class="hidden">of {title}</span>
      </summary>
      <table class="points">
        <caption class="hidden">{`${title}, newest ${rows.length} of ${points}`}</caption>
        <thead>
          <tr>
            <th scope="col">Step</th>
            {lines.map(({ name }) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.toReversed().map(({ step, index }) => (
            <tr key={step}>
              <th scope="row">{formatCount(step)}</th>
              {lines.map(({ name, values }) => {
                const value = values[index];
                const isThere = value !== null && value !== undefined;
                return <td key={name}>{isThere ? formatShortFigure(value) + unit : "–"}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
